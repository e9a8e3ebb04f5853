"""Which experts a token goes to, and with what weight.

In: hidden states and a router's matrix. Out: a ``Routing``, which a mixture layer computes with and which a caller of the decoder may
collect: balance losses are functions of it (``nn.balancing``), so they never hide in a module. Scores are float32 whatever the model
computes in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.config import ExpertsConfig

TINY = 1e-20  # keeps a sum of scores from being zero


@dataclass(frozen=True, kw_only=True)
class Routing:
    """One mixture layer's decisions for [rows, tokens]; the choices of a token stand by falling score (and bias, where there is one)."""

    logits: Tensor  # [rows, tokens, experts] float32
    scores: Tensor  # [rows, tokens, experts] float32
    chosen: Tensor  # [rows, tokens, choices] int64
    weights: Tensor  # [rows, tokens, choices] float32
    kept: Tensor | None = None  # [rows, tokens, choices] bool; None: no capacity limit, all are

    @property
    def effective_weights(self) -> Tensor:
        """What each choice counts: 0 where it was dropped; the others are not rescaled."""
        return self.weights if self.kept is None else self.weights * self.kept


def route(x: Tensor, router: Tensor, config: ExpertsConfig, *, bias: Tensor | None = None, capacity_factor: float | None = None) -> Routing:
    """Score all experts and choose. x [rows, tokens, hidden]; router [experts, hidden].

    bias [experts]: enters the choice and nothing else. capacity_factor: an expert serves so many times its even share; None: all that ask.
    """
    if kernels.can_run_router(x, router):
        logits, scores, chosen, weights = kernels.choose_experts(
            x, router, None if bias is None else bias.float(), choices=config.num_experts_per_token, softmax=config.scoring == "softmax",
            normalized=config.normalize_top_k,
        )  # fmt: skip
    else:
        logits, scores, chosen, weights = choose(x, router, config, bias)
    kept = None
    if capacity_factor is not None:
        kept = within_capacity(chosen, config.num_experts, capacity(chosen, config.num_experts, capacity_factor))
    return Routing(logits=logits, scores=scores, chosen=chosen, weights=weights, kept=kept)


def choose(x: Tensor, router: Tensor, config: ExpertsConfig, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(logits, scores, chosen, weights) in torch's operations."""
    precise = torch.promote_types(x.dtype, torch.float32)
    logits = F.linear(x.to(precise), router.to(precise))
    scores = logits.softmax(-1) if config.scoring == "softmax" else logits.sigmoid()
    if bias is None:
        weights, chosen = scores.topk(config.num_experts_per_token, dim=-1)
    else:
        chosen = (scores.detach() + bias.to(precise)).topk(config.num_experts_per_token, dim=-1).indices
        weights = scores.gather(-1, chosen)
    if config.normalize_top_k:
        weights = weights / (weights.sum(-1, keepdim=True) + TINY)
    return logits, scores, chosen, weights


def capacity(chosen: Tensor, num_experts: int, factor: float) -> int:
    """Tokens that one expert serves: ``factor`` times its even share of all choices, and never more than there are tokens."""
    tokens = chosen.shape[:-1].numel()
    return min(math.ceil(chosen.numel() * factor / num_experts), tokens)


def within_capacity(chosen: Tensor, num_experts: int, limit: int) -> Tensor:
    """Each expert serves the first ``limit`` that ask: all first choices in token order, then all second choices, and so on.  -> bool"""
    asked = chosen.flatten(0, -2).T.flatten()  # in the order of asking
    place = places(asked, num_experts)
    return (place < limit).view(chosen.shape[-1], -1).T.view(chosen.shape)


def places(asked: Tensor, num_experts: int) -> Tensor:
    """How many earlier entries of ``asked`` [n] named the same expert.  -> [n]"""
    order = asked.argsort(stable=True)
    counts = torch.bincount(asked, minlength=num_experts)
    within = torch.arange(len(asked), device=asked.device) - (counts.cumsum(0) - counts)[asked[order]]
    return torch.empty_like(within).scatter_(0, order, within)
