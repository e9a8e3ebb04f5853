"""The log-probability of each target, with a gradient, without [positions, vocab] logits ever existing.

In: hidden states, the head's matrix, targets (already shifted). Out: one number for each position, of which any function may be made:
preference losses sum them by answer. Logits live chunk by chunk. What a position counts is known only in the backward, so a trained head
has its logits made once more there; with a frozen head the gradient is made in the forward and only scaled afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn import kernels

CHUNK_LOGITS = 1 << 24  # alive at a time


class _LogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, logit_scale: float) -> Tensor:
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        frozen = wants_hidden and not wants_weight
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if frozen else None
        for part in _chunks(hidden, weight):
            losses[part], d_logits = _cross_entropy(hidden[part] @ weight.T, targets[part], logit_scale, frozen)
            if d_hidden is not None:
                d_hidden[part] = d_logits @ weight
        ctx.save_for_backward(*([d_hidden] if frozen else [None, hidden, weight, targets]))
        ctx.logit_scale = logit_scale
        return -losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unscaled, *saved = ctx.saved_tensors
        factor = -grads[0][:, None]
        if unscaled is not None:
            return unscaled * factor.type_as(unscaled), None, None, None
        hidden, weight, targets = saved
        factor = factor.type_as(hidden)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        for part in _chunks(hidden, weight):
            _, d_logits = _cross_entropy(hidden[part] @ weight.T, targets[part], ctx.logit_scale, True)
            if d_hidden is not None:
                d_hidden[part] = (d_logits @ weight) * factor[part]
            d_weight += d_logits.T @ (hidden[part] * factor[part])
        return d_hidden, d_weight.type_as(weight), None, None


def _chunks(hidden: Tensor, weight: Tensor) -> Iterator[slice]:
    rows = max(64, CHUNK_LOGITS // weight.shape[0])
    return (slice(begin, begin + rows) for begin in range(0, len(hidden), rows))


def _cross_entropy(logits: Tensor, targets: Tensor, logit_scale: float, gradient: bool) -> tuple[Tensor, Tensor]:
    """(loss of each row, what it asks of its logits: valid only if ``gradient``); the logits are spent."""
    if kernels.can_run(logits):
        return kernels.cross_entropy_rows(logits, targets, logit_scale=logit_scale, gradient=gradient), logits
    scaled = logits.float() * logit_scale
    losses = F.cross_entropy(scaled, targets, reduction="none")
    if gradient:
        scaled = scaled.softmax(-1)
        scaled[torch.arange(len(targets), device=targets.device), targets] -= 1.0
        scaled *= logit_scale
    return losses, scaled.type_as(logits)


def log_probabilities(hidden: Tensor, weight: Tensor, targets: Tensor, *, logit_scale: float = 1.0) -> Tensor:
    """log softmax(logit_scale * hidden weight^T)[target].

    hidden [positions, hidden]; weight [vocab, hidden]; targets [positions] int64, each an id.  -> [positions] float32
    """
    found: Tensor = _LogProbabilities.apply(hidden, weight, targets, logit_scale)
    return found
