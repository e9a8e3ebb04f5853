"""Cross-entropy fused with the head: the sum over scored positions, without [tokens, vocab] float32 logits ever existing.

In: hidden states, the head's matrix, targets (already shifted). Out: a sum, to be divided once by the global target count.
Gradients are made during the forward, chunk by chunk, and scaled in the backward; only scored rows are computed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn import kernels

IGNORED = -100
CHUNK_ROWS = 1024  # rows of logits alive at a time


class _LinearCrossEntropy(torch.autograd.Function):
    """Plain torch form for any device and dtype; sums in float32."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, logit_scale: float) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wants_weight else None
        for begin in range(0, hidden.shape[0], CHUNK_ROWS):
            rows, wanted = hidden[begin : begin + CHUNK_ROWS], targets[begin : begin + CHUNK_ROWS]
            logits = (rows @ weight.T).float() * logit_scale
            total += F.cross_entropy(logits, wanted, reduction="sum")
            if d_hidden is None and d_weight is None:
                continue
            d_logits = logits.softmax(-1)
            d_logits[torch.arange(len(wanted), device=wanted.device), wanted] -= 1.0
            d_logits = (d_logits * logit_scale).type_as(hidden)
            if d_hidden is not None:
                d_hidden[begin : begin + CHUNK_ROWS] = d_logits @ weight
            if d_weight is not None:
                d_weight += (d_logits.T @ rows).float()
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        d_hidden, d_weight = ctx.saved_tensors
        d_hidden = None if d_hidden is None else d_hidden * grad.to(d_hidden.dtype)
        d_weight = None if d_weight is None else (d_weight * grad).to(ctx.weight_dtype)
        return d_hidden, d_weight, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, logit_scale: float = 1.0) -> Tensor:
    """Sum of -log softmax(logit_scale * hidden weight^T)[target] over the positions whose target is not ``IGNORED``.

    hidden [positions, hidden]; weight [vocab, hidden]; targets [positions] int64.  -> float32 scalar
    """
    scored = targets != IGNORED
    if not bool(scored.all()):
        hidden, targets = hidden[scored], targets[scored]
    if kernels.can_run(hidden, weight):
        return kernels.linear_cross_entropy(hidden, weight, targets, logit_scale=logit_scale)
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, logit_scale)
    return total


@torch.no_grad()
def position_losses(hidden: Tensor, weight: Tensor, targets: Tensor, *, logit_scale: float = 1.0) -> Tensor:
    """-log probability of each target, 0 where ``IGNORED``; for evaluation.  -> [positions] float32"""
    losses = torch.zeros(targets.shape, dtype=torch.float32, device=hidden.device)
    for begin in range(0, hidden.shape[0], CHUNK_ROWS):
        part = slice(begin, begin + CHUNK_ROWS)
        logits = (hidden[part] @ weight.T).float() * logit_scale
        losses[part] = F.cross_entropy(logits, targets[part], reduction="none", ignore_index=IGNORED)
    return losses
