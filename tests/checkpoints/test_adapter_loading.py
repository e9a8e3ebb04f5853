"""An adapter goes with its own base alone: another one, a missing one and one of another size are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from beichen.checkpoints.adapter_loading import load_adapted
from beichen.errors import CheckpointError
from tests.checkpoints.test_adapter_folder import write_base, write_ours
from tests.models.stock import random_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def test_a_base_that_is_another_or_elsewhere_is_told(tmp_path, base):
    write_ours(tmp_path / "adapter", base, ["q_proj"])
    other = random_model(LlamaConfig, LlamaForCausalLM, num_key_value_heads=2)
    other.model.norm.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="not the base that the adapter was trained on"):
        load_adapted(tmp_path / "adapter", base=tmp_path / "other")
    path = tmp_path / "adapter" / "adapter_base.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "folder": "/nowhere/at all"}))
    with pytest.raises(CheckpointError, match="/nowhere/at all, which is no folder here"):
        load_adapted(tmp_path / "adapter")
    assert load_adapted(tmp_path / "adapter", base=base).base == base


def test_an_adapter_of_another_size_is_named(tmp_path, base):
    write_ours(tmp_path / "adapter", base, ["q_proj"])
    (tmp_path / "adapter" / "adapter_base.json").unlink()
    write_base(tmp_path / "wide", hidden_size=64)
    with pytest.raises(CheckpointError, match=r"q_proj is adapted as \[32, 32\], the model's is \[64, 64\]"):
        load_adapted(tmp_path / "adapter", base=tmp_path / "wide")
