"""Which device and number format a run uses: what the user asked for if this machine has it, else a plain refusal; never a guess.

Devices that are not NVIDIA's are reached by torch's own names: ``npu`` (Ascend, with the package torch-npu), ``mps`` (Apple), ``xpu``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from beichen.errors import DeviceError, nearest
from beichen.util.machine import cpu_flags, usable_cores, usable_memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ACCELERATORS = ("cuda", "npu", "xpu", "mps")


def available_devices() -> list[str]:
    """What this machine offers, fastest first: ['cuda', 'cpu']."""
    return [kind for kind in _ACCELERATORS if _count(kind)] + ["cpu"]


def _count(kind: str) -> int:
    if kind == "npu" and importlib.util.find_spec("torch_npu") is not None:
        importlib.import_module("torch_npu")  # adds torch.npu
    module = getattr(torch, kind, None)
    if module is None or not module.is_available():
        return 0
    return int(module.device_count())


def choose_device(name: str | None = None) -> torch.device:
    """The device called ``name`` ('cpu', 'cuda', 'cuda:1', 'npu', 'mps', 'xpu'), or for ``None`` the fastest kind this machine has."""
    if name is None:
        return torch.device(available_devices()[0])
    kind, _, number = name.partition(":")
    known = ("cpu", *_ACCELERATORS)
    if kind not in known or (number and not number.isdecimal()):
        meant = " (did you mean 'cuda'?)" if kind == "gpu" else nearest(kind, known)
        raise DeviceError(f"unknown device '{name}'{meant}", remedy=f"one of {', '.join(known)}, with a number as in cuda:1")
    count = 1 if kind == "cpu" else _count(kind)
    if count == 0:
        hint = " (the package torch-npu is not installed)" if kind == "npu" and importlib.util.find_spec("torch_npu") is None else ""
        raise DeviceError(f"this machine has no device '{kind}'{hint}", remedy=f"--device {' or '.join(available_devices())}")
    if number and int(number) >= count:
        raise DeviceError(f"device '{name}' does not exist: this machine has {count} of kind {kind}, numbered from 0")
    return torch.device(name)


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The number format called ``name``, or for ``None`` bfloat16 where the device multiplies it in hardware, else float32."""
    if name is None:
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise DeviceError(f"unknown number format '{name}'{nearest(name, DTYPES)}", remedy=f"one of {', '.join(DTYPES)}")
    return DTYPES[name]


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are made in hardware, not emulated."""
    if device.type == "cpu":
        return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags())
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type in ("npu", "xpu")


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that tensors there can have at all; ``None`` where that is not told."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return usable_memory() if device.type == "cpu" else None


def set_threads(threads: int | None = None) -> int:
    """Gives torch this many threads, by default one per core this process may use; returns the number."""
    if threads is not None and threads < 1:
        raise DeviceError(f"threads={threads}: at least one is needed")
    number = usable_cores() if threads is None else threads
    torch.set_num_threads(number)
    return number


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Within, sums on the CPU are taken in the same order every time (torch's deterministic algorithms), and every number is computed, so
    that memory need not be filled first. Other devices compute as they are set to."""
    if device.type != "cpu":
        yield
        return
    deterministic: Any = torch.utils.deterministic
    before, filling = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        deterministic.fill_uninitialized_memory = filling
