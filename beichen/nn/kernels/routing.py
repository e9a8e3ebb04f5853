"""Which experts each token goes to, in one call, with its gradients; float32 or bf16 in, float32 inside and out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beichen.nn.kernels import build
from beichen.nn.kernels.experts import NAMES


def can_run_router(x: Tensor, router: Tensor) -> bool:
    """Whether ``choose_experts`` takes these: contiguous, on the CPU, both of one of its two number formats."""
    return x.dtype in NAMES and build.can_run(x, router, dtype=x.dtype)


class _ChooseExperts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, router: Tensor, bias: Tensor | None, choices: int, softmax: bool, normalized: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        experts, hidden = router.shape
        leading = x.shape[:-1]
        logits, scores = (x.new_empty(*leading, experts, dtype=torch.float32) for _ in range(2))
        chosen, weights = x.new_empty(*leading, choices, dtype=torch.int64), logits.new_empty(*leading, choices)
        sizes = (leading.numel(), hidden, experts, choices, int(softmax), int(normalized), torch.get_num_threads())
        run = build.function(f"router_forward_{NAMES[x.dtype]}", "ppppppp lllliii")
        run(*_addresses(x, router, bias, logits, scores, chosen, weights), *sizes)
        ctx.save_for_backward(x, router, scores, chosen, weights)
        ctx.sizes = sizes
        ctx.mark_non_differentiable(chosen)
        ctx.set_materialize_grads(False)
        return logits, scores, chosen, weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, router, scores, chosen, weights = ctx.saved_tensors
        d_logits, d_scores, _, d_weights = (None if grad is None else grad.contiguous() for grad in grads)
        if d_weights is None:
            d_weights = torch.zeros_like(weights)
        lines, d_x, d_router = torch.empty_like(scores), torch.empty_like(x), torch.empty_like(router)
        run = build.function(f"router_backward_{NAMES[x.dtype]}", "p" * 11 + " lllliii")
        run(*_addresses(d_logits, d_scores, d_weights, x, router, scores, chosen, weights, lines, d_x, d_router), *ctx.sizes)
        return d_x, d_router, None, None, None, None


def choose_experts(
    x: Tensor, router: Tensor, bias: Tensor | None, *, choices: int, softmax: bool, normalized: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(logits, scores, chosen, weights) of each token, as in ``Routing``.  [..., experts] twice, [..., choices] twice

    x [..., hidden]; router [experts, hidden]; bias [experts] float32: enters the choice alone; softmax: else each expert's sigmoid;
    normalized: the weights of a token sum to one. Of equal scores the first expert's counts as better.
    """
    build.require(x, router, dtype=x.dtype)
    build.require(bias, dtype=torch.float32)
    experts, hidden = router.shape
    if x.shape[-1] != hidden or not 0 < choices <= experts or (bias is not None and bias.shape != (experts,)):
        raise ValueError(f"x {tuple(x.shape)}, router {tuple(router.shape)} and {choices} choices do not fit")
    out: tuple[Tensor, Tensor, Tensor, Tensor] = _ChooseExperts.apply(x, router, bias, choices, softmax, normalized)
    return out


def _addresses(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]
