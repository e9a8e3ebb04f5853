"""Adapter folders: peft reads ours and we read peft's, with the same logits; what we cannot do is refused by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from beichen.checkpoints.adapter_folder import is_adapter, read_adapter, save_adapter
from beichen.checkpoints.adapter_loading import load_adapted
from beichen.checkpoints.fingerprints import record_base
from beichen.checkpoints.loading import load_checkpoint
from beichen.errors import BeichenError, CheckpointError
from beichen.models.adapters import AdapterShape, attach
from beichen.models.linear_names import choose
from beichen.models.registry import load_family
from tests.models.stock import random_model
from tests.models.test_adapters import shake

IDS = torch.arange(60).view(2, 30) % 50


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def write_base(folder: Path, **sizes: Any) -> Path:
    """A model of transformers' making."""
    random_model(LlamaConfig, LlamaForCausalLM, num_key_value_heads=2, **sizes).save_pretrained(folder)
    return folder


def write_ours(folder: Path, base: Path, patterns: list[str], *, wide: str | None = None, **form: Any) -> torch.Tensor:
    """An adapter of our making.  -> logits with it"""
    checkpoint, tables = load_checkpoint(base), load_family("llama")
    ranks = dict.fromkeys(choose(patterns, tables, checkpoint.decoder), 3)
    if wide is not None:
        ranks |= dict.fromkeys(choose([wide], tables, checkpoint.decoder), 5)
    shape = AdapterShape(alpha=6.0, ranks=ranks, **form)
    attach(checkpoint.decoder, tables.names, shape, seed=0)
    shake(checkpoint.decoder)
    record = record_base(base, family="llama", dtype=torch.float32)
    save_adapter(folder, checkpoint.decoder, tables.names, shape, base=record, dropout=0.1)
    with torch.no_grad():
        return checkpoint.decoder.logits(checkpoint.decoder(IDS))


FORMS: dict[str, dict[str, Any]] = {
    "all": {"patterns": ["all-linear"]},
    "some layers": {"patterns": ["model.layers.1.*", "k_proj"]},
    "ranks": {"patterns": ["q_proj", "v_proj", "down_proj"], "wide": "down_proj", "rslora": True},
    "dora": {"patterns": ["all-linear"], "dora": True},
}


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_peft_reads_ours(tmp_path, base, form):
    expected = write_ours(tmp_path / "ours", base, **FORMS[form])
    model = peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), tmp_path / "ours").eval()
    plain = LlamaForCausalLM.from_pretrained(base).eval()(IDS).logits
    assert (model(IDS).logits - expected).abs().max() < 1e-4 < (plain - expected).abs().max()
    held = peft.get_peft_model_state_dict(model)
    assert held.keys() == load_file(tmp_path / "ours" / "adapter_model.safetensors").keys()
    assert (load_adapted(tmp_path / "ours").checkpoint.decoder(IDS)).isfinite().all()


@pytest.mark.parametrize(
    "keys",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "gate_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.gate_proj": 9}},
        {"target_modules": r".*\.1\..*proj", "use_rslora": True},
        {"target_modules": ["v_proj", "o_proj"], "use_dora": True},
    ],
    ids=["all", "patterns", "regular expression", "dora"],
)
@torch.no_grad()
def test_we_read_pefts(tmp_path, base, keys):
    stranger = LlamaForCausalLM.from_pretrained(base)
    model = peft.get_peft_model(stranger, peft.LoraConfig(r=4, lora_alpha=8, **keys)).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0.0, 0.2, generator=generator)
    model.save_pretrained(tmp_path / "theirs")
    base_folder, checkpoint, stored = load_adapted(tmp_path / "theirs")  # where it is, peft has noted
    assert base_folder == base and stored.base is None
    decoder = checkpoint.decoder
    assert (decoder.logits(decoder(IDS)) - model(IDS).logits).abs().max() < 1e-4


def test_written_again_it_is_the_same(tmp_path, base):
    write_ours(tmp_path / "ours", base, **FORMS["ranks"])
    loaded = load_adapted(tmp_path / "ours")
    record = loaded.stored.base
    assert record is not None and record.folder == str(base.resolve())
    save_adapter(tmp_path / "again", loaded.checkpoint.decoder, load_family("llama").names, loaded.stored.shape, base=record, dropout=0.1)
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter_base.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "q_proj", "v_proj"] and config["rank_pattern"] == {"down_proj": 5}
    assert is_adapter(tmp_path / "ours") and not is_adapter(base)


def edit(folder: Path, **keys: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"peft_type": "IA3"}, "peft_type='IA3'"),
        ({"bias": "all"}, "bias='all' is not understood"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save="),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters="),
        ({"init_lora_weights": "pissa_niter_4"}, "trained on a changed base"),
        ({"something_new": 3}, "something_new=3 is not understood"),
        ({"r": 9}, "has rank 3, adapter_config.json says 9"),
        ({"use_dora": True}, "expected lora_A, lora_B, lora_magnitude_vector"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path, base, keys, complaint):
    write_ours(tmp_path, base, ["q_proj"])
    edit(tmp_path, **keys)
    with pytest.raises(BeichenError, match=complaint):
        read_adapter(tmp_path)


def test_tensors_of_something_else_are_named(tmp_path, base):
    write_ours(tmp_path, base, ["q_proj"])
    held = load_file(tmp_path / "adapter_model.safetensors")
    save_file({**held, "base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(3, 50)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"embed_tokens\.lora_embedding_A is no matrix of LoRA"):
        read_adapter(tmp_path)
