"""One linear layer for each group of rows: the product that all experts of a layer have in common, without a loop over them.

In: rows sorted by group, where each group ends, stacked matrices [groups, out, in]. Out: every row through its group's matrix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 16  # bytes: what torch's grouped product wants of widths
_GROUPED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def grouped_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """x [n, in], sorted by group; weight [groups, out, in]; ends [groups] int32: the row behind each group's last.  -> [n, out]"""
    if x.dtype in _GROUPED_DTYPES and all(width * x.element_size() % ALIGNMENT == 0 for width in weight.shape[1:]):
        out: Tensor = _GroupedLinear.apply(x, weight, ends)
        return out
    return _padded_linear(x, weight, ends)


def group_of_rows(ends: Tensor, rows: int) -> Tensor:
    """The group of each row.  [groups] -> [rows]"""
    return torch.bucketize(torch.arange(rows, device=ends.device), ends, right=True, out_int32=True)


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, ends)
        return torch._grouped_mm(x, weight.transpose(1, 2), offs=ends)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, ends = ctx.saved_tensors
        grad = grads[0].contiguous()
        d_x = torch._grouped_mm(grad, weight, offs=ends) if ctx.needs_input_grad[0] else None
        d_weight = torch._grouped_mm(grad.T, x, offs=ends) if ctx.needs_input_grad[1] else None
        return d_x, d_weight, None


def _padded_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """The same for any number format and width: every group filled up with zero rows to the length of the longest."""
    groups, starts = len(ends), ends.roll(1).index_fill(0, torch.zeros(1, dtype=torch.int64, device=ends.device), 0)
    longest = int((ends - starts).max()) if len(x) else 0
    group = group_of_rows(ends, len(x))
    slot = group * longest + torch.arange(len(x), device=x.device) - starts[group]
    padded = x.new_zeros(groups * longest, x.shape[1]).index_copy(0, slot, x)
    out = torch.bmm(padded.view(groups, longest, x.shape[1]), weight.transpose(1, 2))
    return out.flatten(0, 1).index_select(0, slot)
