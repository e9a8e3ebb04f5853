"""Which experts a token goes to, with what weight, and how unevenly the experts are used.

In: hidden states and a router's matrix. Out: a ``Routing``, which a mixture layer computes with and which a caller of the decoder may
collect: balance losses are functions of it, so they never hide in a module. Scores are float32 whatever the model computes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn.config import ExpertsConfig

TINY = 1e-20  # keeps a sum of scores from being zero


@dataclass(frozen=True, kw_only=True)
class Routing:
    """One mixture layer's decisions for [rows, tokens]; the choices of a token stand by falling score."""

    logits: Tensor  # [rows, tokens, experts] float32
    scores: Tensor  # [rows, tokens, experts] float32
    chosen: Tensor  # [rows, tokens, choices] int64
    weights: Tensor  # [rows, tokens, choices] float32
    kept: Tensor | None = None  # [rows, tokens, choices] bool; None: no capacity limit, all are

    @property
    def effective_weights(self) -> Tensor:
        """What each choice counts: 0 where it was dropped; the others are not rescaled."""
        return self.weights if self.kept is None else self.weights * self.kept


def route(x: Tensor, router: Tensor, config: ExpertsConfig, *, limited: bool) -> Routing:
    """Score all experts and choose. x [rows, tokens, hidden]; router [experts, hidden]; limited: apply the capacity, if there is one."""
    precise = torch.promote_types(x.dtype, torch.float32)
    logits = F.linear(x.to(precise), router.to(precise))
    scores = logits.softmax(-1) if config.scoring == "softmax" else logits.sigmoid()
    weights, chosen = scores.topk(config.num_experts_per_token, dim=-1)
    if config.normalize_top_k:
        weights = weights / (weights.sum(-1, keepdim=True) + TINY)
    kept = None
    if limited and config.capacity_factor is not None:
        kept = within_capacity(chosen, config.num_experts, capacity(chosen, config.num_experts, config.capacity_factor))
    return Routing(logits=logits, scores=scores, chosen=chosen, weights=weights, kept=kept)


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


def balance_loss(routings: Sequence[Routing], config: ExpertsConfig, counted: Tensor | None = None) -> Tensor:
    """factor x experts x sum over experts of (its share of all choices) x (its mean score): ``factor`` when all are used alike.

    Form ``sequence``: shares and means within each row; ``batch``: over all rows together, every row getting the same value. Choices
    count before any capacity, and give no gradient; scores do. counted [rows, tokens] bool: leave out the others (padding).
    -> [layers, rows] float32, a line for each routing
    """
    scores, chosen = (torch.stack([getattr(routing, name) for routing in routings]) for name in ("scores", "chosen"))
    if config.scoring == "sigmoid":
        scores = scores / (scores.sum(-1, keepdim=True) + TINY)
    counts = torch.ones_like(scores[0, :, :, 0]) if counted is None else counted.to(scores.dtype)  # [rows, tokens]
    scored = (scores * counts[..., None]).sum(-2)  # [layers, rows, experts]
    each = counts[..., None].expand(chosen.shape).flatten(-2)
    choices = torch.zeros_like(scored).scatter_add_(-1, chosen.flatten(-2), each)
    total = counts.sum(-1, keepdim=True)  # [rows, 1]
    if config.balance_form == "batch":
        scored, choices, total = (part.sum(-2, keepdim=True) for part in (scored, choices, total))
    total = total.clamp_min(1.0)
    uneven = config.num_experts * (choices / (total * chosen.shape[-1]) * (scored / total)).sum(-1)
    return (config.balance_factor * uneven).expand(scores.shape[:2])
