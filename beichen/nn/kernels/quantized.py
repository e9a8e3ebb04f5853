"""Products of a few rows with quantized matrices on the CPU, without gradients: codes are multiplied as they are.

Formats: ``nn/quantized.py``. Rule: as near to the exact product with the dequantized matrix as bf16 rows let it be; the rows of x are taken
in 16 bits, so that no number is off by more than 2^-16 of its row's length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from beichen.nn.kernels import build
from beichen.nn.kernels.threads import crew

HELD: dict[str | None, int] = {None: 0, "int8": 1, "nf4": 2}  # as ``Held`` in source/short_rows.h
_FORMATS = {"int8": (torch.int8, torch.float32), "nf4": (torch.uint8, torch.float16)}
NF4_BLOCK = 64  # weights that share a scale
FEW_ROWS_OF_CODES = 512  # above, the product with what the codes stand for is as fast


@dataclass(frozen=True)
class Codes:
    """A quantized matrix [N, K]."""

    kind: str
    codes: Tensor  # int8 [N, K]; NF4: uint8 [N, blocks * 32]
    scales: Tensor  # int8: float32 [N, 1]; NF4: float16 [N, blocks]
    shape: torch.Size

    def __post_init__(self) -> None:
        for tensor, dtype in zip((self.codes, self.scales), _FORMATS[self.kind], strict=True):
            build.require(tensor, dtype=dtype)
        outer, inner = self.shape
        blocks = -(-inner // NF4_BLOCK)
        shapes = ((outer, inner), (outer, 1)) if self.kind == "int8" else ((outer, blocks * NF4_BLOCK // 2), (outer, blocks))
        if (tuple(self.codes.shape), tuple(self.scales.shape)) != shapes:
            raise ValueError(
                f"codes {tuple(self.codes.shape)} and scales {tuple(self.scales.shape)} are no {self.kind} of {tuple(self.shape)}"
            )


@torch.no_grad()
def dequantized(weight: Codes) -> Tensor:
    """[N, K] bf16, rounded once; bit for bit what torch's operations give."""
    out = torch.empty(weight.shape, dtype=torch.bfloat16)
    build.function("dequantize", "ppp ll ii")(
        weight.codes.data_ptr(), weight.scales.data_ptr(), out.data_ptr(), *weight.shape, HELD[weight.kind], torch.get_num_threads()
    )
    return out


@torch.no_grad()
def nf4_codes(blocks: Tensor, scales: Tensor, borders: Tensor) -> Tensor:
    """The codes of blocks [..., 64] over their scales [...], all float32: how many of the 15 borders lie below; bit for bit as torch has
    them.  -> uint8 [..., 32], two to a byte"""
    build.require(blocks, scales, borders, dtype=torch.float32)
    if blocks.shape != (*scales.shape, NF4_BLOCK) or borders.shape != (15,):
        raise ValueError(f"blocks {tuple(blocks.shape)} need scales {tuple(blocks.shape[:-1])} and 15 borders, got {tuple(scales.shape)}")
    codes = torch.empty(*scales.shape, NF4_BLOCK // 2, dtype=torch.uint8)
    build.function("nf4_codes", "pppp l i")(
        blocks.data_ptr(), scales.data_ptr(), borders.data_ptr(), codes.data_ptr(), scales.numel(), torch.get_num_threads()
    )
    return codes


@torch.no_grad()
def few_row_quantized(x: Tensor, weight: Codes, bias: Tensor | None = None, *, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """x [..., K] bf16, weight [N, K], bias [N] bf16 -> [..., N] of ``dtype``: bf16 or float32 (not rounded on the way)."""
    build.require(x, bias)
    outer, inner = weight.shape
    if x.shape[-1] != inner or (bias is not None and bias.shape != (outer,)):
        raise ValueError(f"x {tuple(x.shape)} and bias do not fit a matrix {tuple(weight.shape)}")
    out = torch.empty(*x.shape[:-1], outer, dtype=dtype)
    wide, narrow = (out.data_ptr(), None) if dtype == torch.float32 else (None, out.data_ptr())
    build.function("linear_few_rows_quantized", "pppppp lll ii")(
        x.data_ptr(), weight.codes.data_ptr(), weight.scales.data_ptr(), None if bias is None else bias.data_ptr(), wide, narrow,
        x.numel() // inner, inner, outer, HELD[weight.kind], crew.size(),
    )  # fmt: skip
    return out
