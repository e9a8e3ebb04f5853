"""The linear layer: a weight [out, in] with or without a bias; few rows on a CPU go through a kernel that reads weights once.

A low-rank update (``nn.low_rank``) may ride on it. ``LinearLayer`` is what all kinds of it have in common: plain or quantized, one or a
stack of them.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels


@runtime_checkable
class LinearLayer(Protocol):
    """What naming, adapting, merging and stepping ask of a linear layer, or of a stack of them (one for each expert)."""

    adapter: nn.Module | None
    bias: nn.Parameter | None  # [out] or [experts, out]
    held_as: str | None  # how its weights are quantized; None: as they are

    @property
    def shape(self) -> torch.Size:
        """[out, in] or [experts, out, in]"""

    def full_weight(self) -> Tensor:
        """The weights, without the adapter: themselves, or dequantized to float32."""


class Linear(nn.Module):
    """y = x W^T + b. Weights are left uninitialised: ``nn.initialization`` or a checkpoint fills them."""

    held_as: str | None = None

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.adapter: nn.Module | None = None
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        out = linear(x, self.weight, self.bias)
        return out if self.adapter is None else self.adapter(x, out, self)

    @property
    def shape(self) -> torch.Size:
        return self.weight.shape

    def full_weight(self) -> Tensor:
        """[out, in], without the adapter."""
        return self.weight


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., in] -> [..., out]; without gradients and with few rows, by the kernel that runs at memory bandwidth."""
    if kernels.can_run_few_rows(x, weight, bias):
        return kernels.few_row_linear(x, weight, bias)
    return F.linear(x, weight, bias)
