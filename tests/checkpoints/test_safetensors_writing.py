"""What we write is what the safetensors library reads, bit for bit, with the digest of the file."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from beichen.checkpoints.safetensors_writing import Planned, planned, write_safetensors
from beichen.util.files import sha256_of

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("seed", range(3))
def test_every_number_format_shape_and_stride_survives(tmp_path, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for index, dtype in enumerate(DTYPES):
        values = torch.randint(0, 2 if dtype == torch.bool else 100, (3, 5), generator=generator).to(dtype)
        tensors |= {f"{index} whole": values, f"{index} turned": values.T, f"{index} odd": values[0, :3], f"{index} scalar": values[1, 1]}
    tensors["empty"] = torch.empty(0, 4)
    digest = write_safetensors(tmp_path / "x.safetensors", {name: planned(tensor) for name, tensor in tensors.items()}, {"step": "3"})
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert digest == sha256_of(tmp_path / "x.safetensors")


def test_a_tensor_is_asked_for_only_when_its_turn_comes(tmp_path):
    asked = []

    def values(name):
        asked.append(name)
        return torch.zeros(2)

    plans = {name: Planned((2,), torch.float32, partial(values, name)) for name in "abc"}
    assert asked == []
    write_safetensors(tmp_path / "x.safetensors", plans)
    assert asked == ["a", "b", "c"]


def test_values_of_another_shape_than_announced_are_refused(tmp_path):
    with pytest.raises(ValueError, match="announced"):
        write_safetensors(tmp_path / "x.safetensors", {"a": Planned((2,), torch.float32, lambda: torch.zeros(3))})
