"""Compiling the C++ of ``source/`` on first use, and saying what is available.

In: the source files, the machine's g++ and its CPU. Out: a loaded library, or None and the reason. The rule kept: a
compiler is optional. Without one (or with ``BEICHEN_KERNELS=off``) the caller runs its torch reference instead, after one
warning. The library is kept per machine under ``$XDG_CACHE_HOME/beichen/kernels`` (default ``~/.cache``), named by a hash
of everything that it depends on, and appears there whole, so that several processes may build it at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

SOURCE = Path(__file__).parent / "source"
FLAGS = ("-O3", "-std=c++17", "-march=native", "-fopenmp", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-w")
SWITCH = "BEICHEN_KERNELS"

_switched_off = False
_lock = threading.Lock()
_CODES: dict[str, Any] = {"p": ctypes.c_void_p, "l": ctypes.c_long, "f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_int}


@dataclass(frozen=True, kw_only=True)
class Status:
    """What ``beichen env`` and every printed figure say about the compiled kernels."""

    available: bool
    reason: str  # the instructions used, or why there are no kernels
    compiler: str | None = None
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Built:
    library: ctypes.CDLL | None
    status: Status


class _BuildError(Exception):
    """Why there is no library, in words for the user."""


def _compiler_version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def _cpu() -> str:
    """What -march=native looks at: the model and its feature flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def _torch_libraries() -> list[str]:
    """Torch's own libraries by path. Its OpenMP must be ours too: two thread pools would spin against each other."""
    folder = Path(torch.__file__).parent / "lib"
    found = [folder / "libtorch_cpu.so", *sorted(folder.glob("libgomp*.so*"))[:1]]
    return [str(path) for path in found if path.exists()]


def cache_folder() -> Path:
    """Where compiled libraries are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beichen" / "kernels"


def _compile(compiler: str, target: Path) -> None:
    """Write the shared library ``target``; its folder gets it by one rename."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:

            def run(arguments: list[str]) -> None:
                done = subprocess.run([compiler, *arguments], cwd=folder, capture_output=True, text=True)
                if done.returncode:
                    raise _BuildError(
                        f"{compiler} failed: {next((x for x in done.stderr.splitlines() if 'error' in x), done.stderr[-300:])}"
                    )

            names = sorted(path.name for path in SOURCE.glob("*.cpp"))
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(lambda name: run([*FLAGS, "-c", str(SOURCE / name), "-o", name + ".o"]), names))
            libraries = _torch_libraries()
            own_openmp = [] if any("libgomp" in path for path in libraries) else ["-fopenmp"]
            run(["-shared", *(name + ".o" for name in names), "-o", "kernels.so", *libraries, *own_openmp])
            os.replace(Path(folder) / "kernels.so", target)
    except OSError as error:
        raise _BuildError(
            f"cannot write {error.filename or target.parent}: {error.strerror} (set XDG_CACHE_HOME to a writable folder)"
        ) from error


def _build() -> _Built:
    compiler = shutil.which("g++")
    if compiler is None:
        raise _BuildError("no compiler: g++ not found")
    version = _compiler_version(compiler)
    parts = [version, _cpu(), torch.__version__, *FLAGS]
    parts += [path.name + "\n" + path.read_text() for path in sorted(SOURCE.glob("*.*"))]
    target = cache_folder() / f"kernels-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:20]}.so"
    if not target.exists():
        _compile(compiler, target)
    try:
        library = ctypes.CDLL(str(target))
    except OSError as error:
        raise _BuildError(f"cannot load {target}: {error}") from error
    library.kernels_instructions.restype = ctypes.c_char_p
    return _Built(
        library=library, status=Status(available=True, reason=library.kernels_instructions().decode(), compiler=version, path=target)
    )


@cache
def _built() -> _Built:
    try:
        return _build()
    except _BuildError as error:
        return _Built(library=None, status=Status(available=False, reason=str(error)))


_warned = False


def library() -> ctypes.CDLL | None:
    """The compiled kernels, built on the first call; None where there are none, with one warning if nobody asked for that."""
    global _warned
    if _switched_off or os.environ.get(SWITCH, "").lower() in ("off", "0", "false"):
        return None
    with _lock:
        built = _built()
    if built.library is None and not _warned:
        _warned = True
        warnings.warn(f"compiled kernels are not available ({built.status.reason}): using slower torch operations", stacklevel=2)
    return built.library


def status() -> Status:
    """Whether the kernels run here, and why not. Builds them if that has not happened yet."""
    if _switched_off:
        return Status(available=False, reason="switched off by the program")
    if library() is None and os.environ.get(SWITCH):
        return Status(available=False, reason=f"switched off by {SWITCH}={os.environ[SWITCH]}")
    with _lock:
        return _built().status


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """Without the kernels inside the block: for references, comparisons and tests."""
    global _switched_off
    before, _switched_off = _switched_off, True
    try:
        yield
    finally:
        _switched_off = before


@cache
def function(name: str, signature: str) -> Callable[..., None]:
    """The C function ``name``; one letter per argument: p pointer, l long, f float, d double, i int."""
    found = library()
    if found is None:
        raise RuntimeError(f"{name}: compiled kernels are not available; ask can_run first")
    call = found[name]
    call.argtypes = [_CODES[letter] for letter in signature.replace(" ", "")]
    call.restype = None
    return call


def can_run(*tensors: torch.Tensor | None, dtype: torch.dtype | None = torch.bfloat16) -> bool:
    """Whether the kernels take these: there are kernels, and all tensors are contiguous, on the CPU, of ``dtype``."""
    for tensor in tensors:
        if tensor is not None and not (tensor.device.type == "cpu" and tensor.is_contiguous() and dtype in (None, tensor.dtype)):
            return False
    return library() is not None


def require(*tensors: torch.Tensor | None, dtype: torch.dtype = torch.bfloat16) -> None:
    """The same as an error: what a kernel demands of its arguments."""
    for tensor in tensors:
        if tensor is not None and not (tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.dtype == dtype):
            raise TypeError(f"expected a contiguous {dtype} tensor on the CPU, got {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}")
