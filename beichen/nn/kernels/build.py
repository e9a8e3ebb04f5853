"""The compiled kernels of ``source/``: what runs here, and what they demand of their arguments.

The rule kept: a compiler is optional. Without one (or with ``BEICHEN_KERNELS=off``) the caller runs its torch reference instead, after
one warning; see :mod:`beichen.util.native`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from beichen.util.native import NativeLibrary, Status

__all__ = ["Status", "can_run", "function", "library", "require", "status", "switched_off"]


def _torch_libraries() -> list[str]:
    """Torch's own libraries by path. Its OpenMP must be ours too: two thread pools would spin against each other."""
    folder = Path(torch.__file__).parent / "lib"
    found = [folder / "libtorch_cpu.so", *sorted(folder.glob("libgomp*.so*"))[:1]]
    paths = [str(path) for path in found if path.exists()]
    return paths if any("libgomp" in path for path in paths) else [*paths, "-fopenmp"]


_KERNELS = NativeLibrary(
    "kernels",
    Path(__file__).parent / "source",
    what="compiled kernels",
    otherwise="slower torch operations",
    flags=("-fopenmp", "-fno-math-errno"),
    linked=_torch_libraries,
    versions=lambda: [torch.__version__],
)
library = _KERNELS.library
status = _KERNELS.status
switched_off = _KERNELS.switched_off
function = _KERNELS.function


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
