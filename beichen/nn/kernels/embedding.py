"""Looking rows of a bf16 matrix up, with a gradient that sums in float32 and in one fixed order."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn.kernels import build


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = weight.shape
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ids, grad = ctx.saved_tensors[0].contiguous(), grads[0].contiguous()
        d_weight = grad.new_empty(ctx.shape)
        run = build.function("embedding_backward", "ppp lll i")
        run(ids.data_ptr(), grad.data_ptr(), d_weight.data_ptr(), ids.numel(), *ctx.shape, torch.get_num_threads())
        return None, d_weight


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """weight[ids].  ids [...] int64, weight [vocab, size] bf16 -> [..., size]"""
    build.require(weight)
    if ids.dtype != torch.int64:
        raise TypeError(f"ids are {ids.dtype}: expected int64")
    out: Tensor = _Embedding.apply(ids, weight)
    return out
