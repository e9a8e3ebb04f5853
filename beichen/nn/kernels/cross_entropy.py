"""Cross-entropy fused with the head: chunks of bf16 logits become the gradient in place, in the forward.

[positions, vocab] never exists as a whole, in float32 not even a row of it. The matrix products are torch's; one kernel does the rest.
Every position given is scored: the caller leaves the others out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beichen.nn.kernels import build

CHUNK_LOGITS = 1 << 24  # bf16 logits alive at a time: 32 MiB


def _chunk_rows(vocab: int, chunk: int | None) -> int:
    return chunk or max(64, CHUNK_LOGITS // vocab // 64 * 64)


def _losses(logits: Tensor, targets: Tensor, out: Tensor, scale: float, z_loss: float, gradient: bool) -> None:
    rows, vocab = logits.shape
    run = build.function("cross_entropy_rows", "ppp ll ff ii")
    run(logits.data_ptr(), targets.data_ptr(), out.data_ptr(), rows, vocab, scale, z_loss, int(gradient), torch.get_num_threads())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float, z_loss: float, chunk: int | None
    ) -> Tensor:  # fmt: skip
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        count, step = hidden.shape[0], _chunk_rows(weight.shape[0], chunk)
        losses = torch.empty(count)
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_weight: Tensor | None = None
        buffer = hidden.new_empty(min(step, count), weight.shape[0])
        for begin in range(0, count, step):
            part = slice(begin, begin + step)
            rows = hidden[part]
            logits = buffer[: rows.shape[0]]
            torch.mm(rows, weight.T, out=logits)
            _losses(logits, targets[part], losses[part], scale, z_loss, wants_hidden or wants_weight)
            if d_hidden is not None:
                torch.mm(logits, weight, out=d_hidden[part])
            if wants_weight:
                update = logits.T @ rows
                if count <= step:
                    d_weight = update
                    break
                if d_weight is None:
                    d_weight = torch.empty(weight.shape)
                run = build.function("accumulate", "ppl ii")
                run(d_weight.data_ptr(), update.data_ptr(), update.numel(), int(begin == 0), torch.get_num_threads())
        if wants_weight and d_weight is None:
            d_weight = torch.zeros_like(weight)
        ctx.save_for_backward(d_hidden, d_weight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        factor = float(grads[0])
        d_hidden, d_weight = (t if t is None or factor == 1.0 else t * factor for t in ctx.saved_tensors)
        return d_hidden, None if d_weight is None else d_weight.bfloat16(), None, None, None, None


def _check(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    build.require(hidden, weight)
    build.require(targets, dtype=torch.int64)
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < weight.shape[0]:
        raise ValueError(f"targets lie in {int(targets.min())}..{int(targets.max())}: expected 0..{weight.shape[0] - 1}")


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, logit_scale: float = 1.0, z_loss: float = 0.0, chunk: int | None = None
) -> Tensor:
    """Sum over positions of -log softmax(logit_scale * hidden weight^T)[target] + z_loss * logsumexp^2, a float32 scalar.

    hidden [positions, H] bf16; weight [V, H] bf16; targets [positions] int64, negative = not scored; ``chunk``: rows of logits
    alive at a time.
    """
    if targets.numel() and int(targets.min()) < 0:
        scored = targets >= 0
        hidden, targets = hidden[scored], targets[scored]
    _check(hidden, weight, targets)
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, logit_scale, z_loss, chunk)
    return total


@torch.no_grad()
def position_losses(hidden: Tensor, weight: Tensor, targets: Tensor, *, logit_scale: float = 1.0) -> Tensor:
    """-log probability of every target, 0 where the target is negative.  -> [positions] float32"""
    scored = targets >= 0
    everything = bool(scored.all())
    rows, wanted = (hidden, targets) if everything else (hidden[scored], targets[scored])
    _check(rows, weight, wanted)
    found, step = torch.empty(rows.shape[0]), _chunk_rows(weight.shape[0], None)
    for begin in range(0, rows.shape[0], step):
        part = slice(begin, begin + step)
        _losses(rows[part] @ weight.T, wanted[part], found[part], logit_scale, 0.0, False)
    return found if everything else torch.zeros(targets.shape).masked_scatter_(scored, found)


def cross_entropy_rows(logits: Tensor, targets: Tensor, *, logit_scale: float = 1.0, gradient: bool = False) -> Tensor:
    """-log softmax(logit_scale * logits)[target] of each row; with ``gradient``, its gradient takes the place of the logits.

    logits [positions, V] bf16; targets [positions] int64, each an id.  -> [positions] float32
    """
    build.require(logits)
    build.require(targets, dtype=torch.int64)
    losses = torch.empty(len(logits))
    _losses(logits, targets, losses, logit_scale, 0.0, gradient)
    return losses
