"""Normalisation over the last dimension, and the residual addition that always precedes it.

``add_norm(residual, update)`` is the one place where the residual stream grows: addition and norm in one pass over memory.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * x / rms(x): the quotient in float32, cast to x's dtype before the product (as every original does)."""
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).type_as(x)


class Norm(nn.Module):
    """RMSNorm (weight) or LayerNorm (weight and bias), both computed in float32."""

    def __init__(self, size: int, *, kind: Literal["rms", "layer"], eps: float) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if kind == "layer" else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] -> [..., size]"""
        if self.bias is not None:
            return F.layer_norm(x.float(), x.shape[-1:], self.weight.float(), self.bias.float(), self.eps).type_as(x)
        if kernels.can_run(x, self.weight):
            return kernels.rms_norm(x, self.weight, self.eps)
        return rms_norm(x, self.weight, self.eps)

    def add_norm(self, residual: Tensor, update: Tensor | None) -> tuple[Tensor, Tensor]:
        """(residual + update, norm of that); ``update`` None stands for zero."""
        if update is None:
            return residual, self(residual)
        if self.bias is None and kernels.can_run(residual, update, self.weight):
            return kernels.add_rms_norm(residual, update, self.weight, self.eps)
        total = residual + update
        return total, self(total)
