"""Merging: what is written computes as base and adapter did, at the base's own formats; anything else is refused, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from beichen.checkpoints.adapter_folder import save_adapter
from beichen.checkpoints.adapter_loading import load_adapted
from beichen.checkpoints.fingerprints import record_base
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.merging import merge_adapter
from beichen.errors import CheckpointError, StorageError
from beichen.models.adapters import AdapterShape, attach
from beichen.models.linear_names import choose
from beichen.models.registry import load_family
from beichen.nn.low_rank import LowRank
from beichen.nn.quantized import Kind, quantize
from tests.models.stock import random_model
from tests.models.test_adapters import shake

IDS = torch.arange(60).view(2, 30) % 50


def write_base(folder: Path, dtype: torch.dtype) -> Path:
    random_model(LlamaConfig, LlamaForCausalLM, num_key_value_heads=2).to(dtype).save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: Path, *, dora: bool = False, kind: Kind | None = None) -> Path:
    checkpoint, tables = load_checkpoint(base), load_family("llama")
    shape = AdapterShape(alpha=6.0, ranks=dict.fromkeys(choose(["q_proj", "v_proj"], tables, checkpoint.decoder), 3), dora=dora)
    if kind is not None:
        quantize(checkpoint.decoder, kind)
    attach(checkpoint.decoder, tables.names, shape, seed=0)
    shake(checkpoint.decoder)
    record = record_base(base, family="llama", dtype=torch.float32, quantized=kind)
    save_adapter(folder, checkpoint.decoder, tables.names, shape, base=record)
    return folder


@pytest.mark.parametrize("kind", [None, "int8", "nf4"])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_merged_is_unmerged(tmp_path, dtype, dora, kind):
    base = write_base(tmp_path / "base", dtype)
    adapter = write_adapter(tmp_path / "adapter", base, dora=dora, kind=kind)
    report = merge_adapter(adapter, tmp_path / "merged")
    assert report.error <= report.limit and report.layers == 4 and report.formats == [str(dtype).removeprefix("torch.")]
    unmerged = load_adapted(adapter, dtype=torch.float32).checkpoint.decoder
    merged = load_checkpoint(tmp_path / "merged", dtype=torch.float32).decoder
    difference = (merged.logits(merged(IDS)) - unmerged.logits(unmerged(IDS))).square().mean().sqrt()
    assert float(difference) < 2 * report.limit, "other ids than those of the probe set"
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "merged", base))
    assert ours.keys() == theirs.keys() and all(tensor.dtype == dtype for tensor in ours.values())
    moved = {name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])}
    adapted = {name for name in ours if name.endswith(("q_proj.weight", "v_proj.weight"))}
    linear = {name for name in ours if name.endswith("_proj.weight")}
    assert moved == (adapted if kind is None else linear), "of a quantized base, what was trained on is what was dequantized"


def test_each_tensor_keeps_its_own_format(tmp_path):
    base = write_base(tmp_path / "base", torch.float32)
    held = load_file(base / "model.safetensors")
    mixed = {name: tensor.bfloat16() if "q_proj" in name else tensor for name, tensor in held.items()}
    save_file(mixed, base / "model.safetensors", metadata={"format": "pt"})
    report = merge_adapter(write_adapter(tmp_path / "adapter", base), tmp_path / "merged")
    assert report.formats == ["bfloat16", "float32"]
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="pt") as file:
        assert file.get_tensor("model.layers.0.self_attn.q_proj.weight").dtype == torch.bfloat16
        assert file.get_tensor("model.layers.0.self_attn.v_proj.weight").dtype == torch.float32


def test_a_fold_that_is_wrong_is_refused_and_not_written(tmp_path, monkeypatch):
    """Half the update: the fault of those who forget alpha / rank."""
    base = write_base(tmp_path / "base", torch.bfloat16)
    adapter = write_adapter(tmp_path / "adapter", base)
    right = LowRank.folded
    monkeypatch.setattr(LowRank, "folded", lambda self, weight: (right(self, weight) + weight.float()) / 2)
    with pytest.raises(CheckpointError, match="merged and unmerged logits differ by"):
        merge_adapter(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_another_base_is_refused_even_where_its_files_look_untouched(tmp_path):
    """Same size, same time, one bit."""
    import os

    base = write_base(tmp_path / "base", torch.float32)
    adapter = write_adapter(tmp_path / "adapter", base)
    path = base / "model.safetensors"
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(CheckpointError, match="not the base that the adapter was trained on"):
        merge_adapter(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_nothing_is_overwritten(tmp_path):
    base = write_base(tmp_path / "base", torch.float32)
    with pytest.raises(StorageError, match="nothing is overwritten"):
        merge_adapter(write_adapter(tmp_path / "adapter", base), base)
