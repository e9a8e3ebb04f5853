"""How unevenly experts are used: losses that training may ask for, and figures for the log, all functions of ``Routing``s.

Rule: everything is a value for each row, of its own tokens alone; only the ``batch`` form looks over the rows of a pass. So however rows
are dealt to micro-batches, the others stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from beichen.nn.config import ExpertsConfig
from beichen.nn.routing import TINY, Routing


@dataclass(frozen=True, kw_only=True)
class Balancing:
    """What training asks of the choices; all factors 0: nothing."""

    factor: float = 0.0  # experts are to be used alike
    form: Literal["sequence", "batch"] = "batch"  # within each row, or over the rows of a pass
    device_factor: float = 0.0  # groups of neighbouring experts, each on a device of its own, are to be used alike
    device_groups: int = 1
    z_loss_factor: float = 0.0  # the router's logits are to stay small

    @classmethod
    def of(cls, config: ExpertsConfig) -> Balancing:
        """What a model's own config asks."""
        return cls(factor=config.balance_factor, form=config.balance_form)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the rows of a pass did, in every mixture layer. Choices count before any capacity, and give no gradient; scores do."""

    choices: Tensor  # [layers, rows, experts] how often each was chosen
    scored: Tensor  # [layers, rows, experts] sum of its scores, which are shares of one
    tokens: Tensor  # [rows, 1]
    scores: Tensor  # [layers, rows, tokens, experts]
    logits: Tensor  # alike
    counted: Tensor  # [rows, tokens] 0 or 1

    def over(self, form: Literal["sequence", "batch"]) -> tuple[Tensor, Tensor]:
        """(share of all choices, mean score) of each expert, by row or over all.  -> [layers, rows or 1, experts] each"""
        choices, scored, tokens = self.choices, self.scored, self.tokens
        if form == "batch":
            choices, scored, tokens = (part.sum(-2, keepdim=True) for part in (choices, scored, tokens))
        return choices / choices.sum(-1, keepdim=True).clamp_min(1.0), scored / tokens.clamp_min(1.0)

    def mean(self, values: Tensor) -> Tensor:
        """Over the counted tokens of each row.  [layers, rows, tokens] -> [layers, rows]"""
        return (values * self.counted).sum(-1) / self.tokens[:, 0].clamp_min(1.0)


def usage(routings: Sequence[Routing], config: ExpertsConfig, counted: Tensor | None = None) -> Usage:
    """Of the mixture layers of one forward. counted [rows, tokens] bool: leave out the others (padding)."""
    logits, scores, chosen = (torch.stack([getattr(routing, name) for routing in routings]) for name in ("logits", "scores", "chosen"))
    if config.scoring == "sigmoid":
        scores = scores / (scores.sum(-1, keepdim=True) + TINY)
    counts = torch.ones_like(scores[0, :, :, 0]) if counted is None else counted.to(scores.dtype)
    scored = (scores * counts[..., None]).sum(-2)
    each = counts[..., None].expand(chosen.shape).flatten(-2)
    choices = torch.zeros_like(scored).scatter_add_(-1, chosen.flatten(-2), each)
    return Usage(choices=choices, scored=scored, tokens=counts.sum(-1, keepdim=True), scores=scores, logits=logits, counted=counts)


def unevenness(shares: Tensor, means: Tensor) -> Tensor:
    """n x sum over the n of (its share of all choices) x (its mean score): 1 when all are used alike.  [..., n] -> [...]"""
    return shares.shape[-1] * (shares * means).sum(-1)


def balance_loss(routings: Sequence[Routing], config: ExpertsConfig, counted: Tensor | None = None) -> Tensor:
    """The balance loss as the model's config asks for it.  -> [layers, rows] float32, in the ``batch`` form alike in all rows"""
    return _balance(usage(routings, config, counted), Balancing.of(config))


def asked_losses(used: Usage, asked: Balancing) -> dict[str, Tensor]:
    """Every loss whose factor is not 0, by name.  -> [layers, rows] float32 each"""
    losses = {}
    if asked.factor:
        losses["balance_loss"] = _balance(used, asked)
    if asked.device_factor:
        shares, means = (part.unflatten(-1, (asked.device_groups, -1)).sum(-1) for part in used.over(asked.form))
        losses["device_balance_loss"] = (asked.device_factor * unevenness(shares, means)).expand(used.choices.shape[:2])
    if asked.z_loss_factor:
        losses["z_loss"] = asked.z_loss_factor * used.mean(used.logits.logsumexp(-1).square())
    return losses


@torch.no_grad()
def usage_figures(routings: Sequence[Routing], used: Usage) -> dict[str, Tensor]:
    """What the log shows of each row: the load (share of the choices) of each expert, the entropy of a token's scores in nats (at most
    ln experts), and the share of choices that found no place, if there is a limit.  -> [layers, rows, experts], then [layers, rows] each
    """
    figures = {"expert_load": used.over("sequence")[0], "router_entropy": used.mean(torch.special.entr(used.scores).sum(-1))}
    if all(routing.kept is not None for routing in routings):
        kept = torch.stack([routing.kept for routing in routings if routing.kept is not None])
        figures["drop_rate"] = used.mean(1.0 - kept.to(used.counted.dtype).mean(-1))
    return figures


def _balance(used: Usage, asked: Balancing) -> Tensor:
    return (asked.factor * unevenness(*used.over(asked.form))).expand(used.choices.shape[:2])
