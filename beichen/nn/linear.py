"""The linear layer: a weight [out, in] with or without a bias; few rows on a CPU go through a kernel that reads weights once.

A low-rank update (``nn.low_rank``) may ride on it, or move some of the tokens that go through it (``nn.spans``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels
from beichen.nn.spans import Span, moved


class Linear(nn.Module):
    """y = x W^T + b. Weights are left uninitialised: ``nn.initialization`` or a checkpoint fills them."""

    held_as: str | None = None

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.adapter: nn.Module | None = None
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def forward(self, x: Tensor, spans: Sequence[Span] = ()) -> Tensor:
        """[..., in] -> [..., out]"""
        out = linear(x, self.weight, self.bias)
        out = out if self.adapter is None else self.adapter(x, out, self)
        return moved(self, x, out, spans) if spans else out

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
