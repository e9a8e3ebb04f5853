"""A device is what was asked for, or a refusal that says what there is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from beichen.errors import DeviceError
from beichen.util import device
from beichen.util.device import available_devices, choose_device, choose_dtype, repeatable, set_threads

CPU = torch.device("cpu")


def pretend(monkeypatch, **counts):
    monkeypatch.setattr(device, "_count", lambda kind: counts.get(kind, 0))


def test_the_cpu_is_always_there():
    assert available_devices()[-1] == "cpu"
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(("counts", "best"), [({}, "cpu"), ({"mps": 1}, "mps"), ({"cuda": 2, "npu": 1}, "cuda"), ({"xpu": 8}, "xpu")])
def test_without_a_name_the_fastest_kind(monkeypatch, counts, best):
    pretend(monkeypatch, **counts)
    assert choose_device().type == best


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cud", "unknown device 'cud' (did you mean 'cuda'?)"),
        ("cuda:x", "unknown device 'cuda:x'"),
        ("npu", "this machine has no device 'npu'"),
        ("cuda:2", "device 'cuda:2' does not exist: this machine has 2 of kind cuda"),
        ("cpu:1", "device 'cpu:1' does not exist"),
        ("", "unknown device ''"),
    ],
)
def test_refusals(monkeypatch, name, message):
    pretend(monkeypatch, cuda=2)
    with pytest.raises(DeviceError) as caught:
        choose_device(name)
    assert message in str(caught.value)


def test_a_refusal_names_what_there_is(monkeypatch):
    pretend(monkeypatch, cuda=1)
    with pytest.raises(DeviceError, match="--device cuda or cpu"):
        choose_device("mps")


@pytest.mark.parametrize(("flags", "dtype"), [({"avx512_bf16"}, torch.bfloat16), ({"amx_bf16"}, torch.bfloat16), ({"avx2"}, torch.float32)])
def test_without_a_name_the_format_that_the_cpu_multiplies(monkeypatch, flags, dtype):
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset(flags))
    assert choose_dtype(None, CPU) == dtype


def test_formats_by_name():
    assert choose_dtype("float16", CPU) == torch.float16
    with pytest.raises(DeviceError, match=r"did you mean 'bfloat16'\?"):
        choose_dtype("bfloat", CPU)


def test_threads():
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
        assert set_threads() == torch.get_num_threads() >= 1
        with pytest.raises(DeviceError, match="threads=0"):
            set_threads(0)
    finally:
        torch.set_num_threads(before)


def test_repeatable_holds_within_and_leaves_what_was_set():
    filling: Any = torch.utils.deterministic
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(ValueError, match="x"), repeatable(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled() and not filling.fill_uninitialized_memory
        raise ValueError("x")
    assert not torch.are_deterministic_algorithms_enabled() and filling.fill_uninitialized_memory
    with repeatable(torch.device("meta")):
        assert not torch.are_deterministic_algorithms_enabled()
