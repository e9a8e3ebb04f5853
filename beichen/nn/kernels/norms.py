"""RMSNorm, alone and with the residual addition before it, with gradients; bf16 in and out, float32 inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beichen.nn.kernels import build

_FORWARD = ("rms_norm_forward", "pppppp ll fi")
_BACKWARD = ("rms_norm_backward", "ppppppp ll i")


def _forward(residual: Tensor | None, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """-> (residual + x, its norm, 1 / rms of every row)"""
    size = x.shape[-1]
    total = x if residual is None else torch.empty_like(x)
    out, inverse = torch.empty_like(x), torch.empty(x.numel() // size)
    added = (residual.data_ptr(), total.data_ptr()) if residual is not None else (None, None)
    pointers = (added[0], x.data_ptr(), weight.data_ptr(), added[1], out.data_ptr(), inverse.data_ptr())
    build.function(*_FORWARD)(*pointers, inverse.numel(), size, eps, torch.get_num_threads())
    return total, out, inverse


def _backward(row: Tensor, weight: Tensor, inverse: Tensor, grad: Tensor, through: Tensor | None) -> tuple[Tensor, Tensor]:
    """-> gradients with respect to the normed rows and the weight"""
    d_row, d_weight = torch.empty_like(row), torch.empty_like(weight)
    grad = grad.contiguous()
    through = None if through is None else through.contiguous()
    passed = None if through is None else through.data_ptr()
    pointers = (row.data_ptr(), weight.data_ptr(), grad.data_ptr(), passed, inverse.data_ptr(), d_row.data_ptr(), d_weight.data_ptr())
    build.function(*_BACKWARD)(*pointers, inverse.numel(), row.shape[-1], torch.get_num_threads())
    return d_row, d_weight


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        _, out, inverse = _forward(None, x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        return (*_backward(x, weight, inverse, grads[0], None), None)


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        total, out, inverse = _forward(residual, x, weight, eps)
        ctx.save_for_backward(total, weight, inverse)
        ctx.set_materialize_grads(False)
        return total, out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        through, grad = grads
        if grad is None:
            return through, through, None, None
        total, weight, inverse = ctx.saved_tensors
        d_total, d_weight = _backward(total, weight, inverse, grad, through)
        return d_total, d_total, d_weight, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * x / rms(x).  x [..., size], weight [size] -> [..., size]"""
    build.require(x, weight)
    return _RmsNorm.apply(x, weight, eps)


def add_rms_norm(residual: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(residual + x, rms_norm(residual + x)), each [..., size]."""
    build.require(residual, x, weight)
    total, out = _AddRmsNorm.apply(residual, x, weight, eps)
    return total, out
