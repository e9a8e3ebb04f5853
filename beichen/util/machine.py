"""Facts about this machine: what a bug report needs and what a speed figure is judged by. No torch is loaded unless asked for."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("beichen", "torch", "torch-npu", "numpy", "safetensors", "tokenizers", "jsonargparse", "rich", "pyarrow", "transformers")
_NOTED_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm", "sve")


@cache
def _cpu_table() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty on systems without it."""
    source = Path("/proc/cpuinfo")
    if not source.exists():
        return {}
    first = source.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in first.splitlines()) if colon}


def cpu_flags() -> frozenset[str]:
    """Instruction sets by the names Linux gives them; empty where the system does not tell."""
    table = _cpu_table()
    return frozenset((table.get("flags") or table.get("Features") or "").split())


def processor_name() -> str:
    """The processor's model, as well as the system tells it."""
    return _cpu_table().get("model name") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut by a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        share, period = quota.read_text(encoding="utf-8").split()
        if share != "max":
            cores = min(cores, max(1, int(share) // int(period)))
    return cores


def memory_bytes() -> int | None:
    """The machine's memory, or ``None`` where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def usable_memory() -> int | None:
    """Bytes that this process may use: the machine's, cut by a container's limit; ``None`` where the system does not tell."""
    limit, machine = Path("/sys/fs/cgroup/memory.max"), memory_bytes()
    bound = limit.read_text(encoding="ascii").strip() if limit.exists() else "max"
    return machine if bound == "max" or machine is None else min(machine, int(bound))


def compiler() -> str | None:
    """Path of the C++ compiler that torch would use, or ``None``: Beichen runs without, more slowly."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def _compiler_version(path: str) -> str:
    answer = subprocess.run([path, "--version"], capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    return answer.stdout.partition("\n")[0] or path


def hardware_facts() -> dict[str, Any]:
    """Processor, cores, memory, instruction sets and compiler."""
    flags, found = cpu_flags(), compiler()
    return {
        "system": platform.platform(),
        "cpu": processor_name(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "instruction_sets": [flag for flag in _NOTED_FLAGS if flag in flags],
        "compiler": _compiler_version(found) if found else None,
    }


def software_facts() -> dict[str, str]:
    """Versions of Python and of the packages that matter; those not installed are left out."""
    versions = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def measure_matmul_peak(dtype: torch.dtype, sizes: tuple[int, ...] = (1024, 2048, 4096), device: torch.device | str = "cpu") -> float:
    """GFLOP/s of square matrix products [size, size] @ [size, size]: the best over ``sizes`` of the median over repeats."""
    import torch

    def wait() -> None:
        if torch.device(device).type != "cpu":
            torch.accelerator.synchronize()

    best = 0.0
    for size in sizes:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        seconds: list[float] = []
        started = time.perf_counter()
        while len(seconds) < 4 or (len(seconds) < 12 and time.perf_counter() - started < 1.0):
            before = time.perf_counter()
            left @ right
            wait()
            seconds.append(time.perf_counter() - before)
        best = max(best, 2 * size**3 / statistics.median(seconds[1:]) / 1e9)  # the first one warms up
    return best
