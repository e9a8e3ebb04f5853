"""The linear layer: a weight [out, in] with or without a bias; few rows on a CPU go through a kernel that reads weights once.

A low-rank update (``nn.low_rank``) may ride on it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels


class Linear(nn.Module):
    """y = x W^T + b. Weights are left uninitialised: ``nn.initialization`` or a checkpoint fills them."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.adapter: nn.Module | None = None
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        out = linear(x, self.weight, self.bias)
        return out if self.adapter is None else self.adapter(x, out, self)

    def full_weight(self) -> Tensor:
        """[out, in], without the adapter."""
        return self.weight


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., in] -> [..., out]; without gradients and with few rows, by the kernel that runs at memory bandwidth."""
    if kernels.can_run_few_rows(x, weight, bias):
        return kernels.few_row_linear(x, weight, bias)
    return F.linear(x, weight, bias)
