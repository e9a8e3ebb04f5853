"""Adapters for a base's export in Llama layout: the adapted export answers as the adapted model, in every family that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from beichen.checkpoints.adapter_folder import CONFIG, WEIGHTS, read_adapter, save_adapter
from beichen.checkpoints.adapter_loading import load_adapted
from beichen.checkpoints.fingerprints import record_base
from beichen.checkpoints.llama_adapters import export_adapter
from beichen.checkpoints.llama_export import beyond_llama, export_llama
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import CheckpointError, ConfigError
from beichen.models.adapters import AdapterShape, attach
from beichen.models.linear_names import choose
from beichen.models.registry import FAMILIES, load_family
from beichen.nn.decoder import Decoder
from tests.models.test_adapters import shake, tiny

IDS = torch.arange(60).view(2, 30) % 40
HAVE_ONE = [name for name in FAMILIES if not beyond_llama(tiny(name).config)]
FORMS: dict[str, dict[str, Any]] = {"plain": {}, "scaled": {"rslora": True}, "dora": {"dora": True}}


def write_adapter(folder: Path, base: Path, family: str, **form: Any) -> None:
    """Two ranks, and two scales."""
    checkpoint, tables = load_checkpoint(base), load_family(family)
    chosen = choose(["all-linear"], tables, checkpoint.decoder)
    ends = {name.rpartition(".")[2]: number for number, name in enumerate(chosen)}
    ranks = {name: 2 + ends[name.rpartition(".")[2]] % 2 for name in chosen}
    shape = AdapterShape(alpha=4.0, ranks=ranks, alphas={name: 6.0 for name in chosen if ranks[name] == 2}, **form)
    attach(checkpoint.decoder, tables.names, shape, seed=0)
    shake(checkpoint.decoder)
    save_adapter(folder, checkpoint.decoder, tables.names, shape, base=record_base(base, family=family, dtype=torch.float32))


@torch.no_grad()
def logits(decoder: Decoder) -> torch.Tensor:
    return decoder.logits(decoder(IDS))


def test_most_families_have_an_export():
    assert {"telechat", "telechat2", "llama"} <= set(HAVE_ONE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", HAVE_ONE)
def test_the_adapted_export_answers_as_the_adapted_model(tmp_path, family, form):
    decoder = tiny(family)
    save_checkpoint(tmp_path / "base", decoder, family=family)
    write_adapter(tmp_path / "adapter", tmp_path / "base", family, **FORMS[form])
    export_llama(tmp_path / "base", tmp_path / "llama")
    stored = read_adapter(tmp_path / "adapter")
    export_adapter(stored, decoder.config, load_family(family).names, tmp_path / "exported", base=tmp_path / "llama")
    assert {path.name for path in (tmp_path / "exported").iterdir()} >= {CONFIG, WEIGHTS}
    expected = logits(load_adapted(tmp_path / "adapter").checkpoint.decoder)
    found = load_adapted(tmp_path / "exported")
    assert found.base == tmp_path / "llama"
    torch.testing.assert_close(logits(found.checkpoint.decoder), expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(decoder)).abs().max() > 0.01, "the adapter does nothing"


def test_what_does_not_fit_or_cannot_be_said_is_refused(tmp_path):
    save_checkpoint(tmp_path / "base", tiny("telechat2"), family="telechat2")
    write_adapter(tmp_path / "adapter", tmp_path / "base", "telechat2")
    stored, names = read_adapter(tmp_path / "adapter"), load_family("telechat2").names
    other = load_family("telechat2").new_config(
        vocab_size=40, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, max_position_embeddings=32,
        num_key_value_heads=2,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="is adapted as"):
        export_adapter(stored, other, names, tmp_path / "no", base=tmp_path)
    with pytest.raises(ConfigError, match="Llama layout cannot say experts"):
        export_adapter(stored, tiny("telechat2", experts=True).config, names, tmp_path / "no", base=tmp_path)
    assert not (tmp_path / "no").exists()
