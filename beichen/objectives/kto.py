"""Kahneman-Tversky optimization: answers that are good or bad each by itself, measured against a reference point.

Rule: the reference point is a mean over the whole step, so how a step is cut into micro-batches changes no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beichen.nn.decoder import Decoder
from beichen.objectives.preference import PreferenceObjective, answer_log_probabilities, documents_of, nothing
from beichen.objectives.preference_settings import PreferenceSettings
from beichen.objectives.types import LossSum, Objective, Scored


def objective(settings: PreferenceSettings, reference: Tensor) -> RatedObjective:
    """As the settings ask for it. reference [documents]"""
    return RatedObjective(
        reference=reference, beta=settings.beta, sft_weight=settings.sft_weight, per_token=settings.per_token,
        good_weight=settings.good_weight, bad_weight=settings.bad_weight,
    )  # fmt: skip


def kto_loss(
    log_ratio: Tensor, good: Tensor, reference_point: Tensor, *, beta: float, good_weight: float = 1.0, bad_weight: float = 1.0
) -> Tensor:  # fmt: skip
    """Kahneman-Tversky optimization (arXiv 2402.01306, equation 8): how much worth is missing, less steeply the farther from the reference
    point.

    log_ratio [examples]; good [examples] bool; reference_point: a scalar, the mean log-ratio of mismatched answers, at least 0.
    """
    away = torch.where(good, log_ratio - reference_point, reference_point - log_ratio)
    weight = torch.where(good, good_weight, bad_weight)
    return weight * (1.0 - torch.sigmoid(beta * away))


@dataclass(frozen=True, kw_only=True)
class RatedObjective(PreferenceObjective):
    """KTO: each document of a batch is an answer that is good or not. Measures its reference point over a whole step."""

    good_weight: float = 1.0
    bad_weight: float = 1.0

    def of_step(self, decoder: Decoder, batches: Sequence[Scored]) -> Objective:
        """The objective of one step, which must see all its micro-batches first."""
        log_ratios, goods = [], []
        training = decoder.training
        decoder.eval()
        for batch in batches:
            if batch.documents is None or batch.documents.mismatched is None or batch.documents.good is None:
                continue
            mismatched = batch.documents.mismatched
            with torch.no_grad():
                log_ratios.append(self.log_ratio(*answer_log_probabilities(decoder, mismatched), documents_of(mismatched)))
            goods.append(batch.documents.good)
        decoder.train(training)
        if not goods:
            return lambda decoder, batch: nothing(decoder)
        good = torch.cat(goods).float()
        return _RatedStep(
            given=self, reference_point=torch.cat(log_ratios).mean().clamp(min=0.0), share_good=good.mean(), share_bad=1.0 - good.mean()
        )

    def __call__(self, decoder: Decoder, batch: Scored) -> LossSum:
        return self.of_step(decoder, [batch])(decoder, batch)


@dataclass(frozen=True, kw_only=True)
class _RatedStep:
    """``RatedObjective`` with what is known of the whole step."""

    given: RatedObjective
    reference_point: Tensor
    share_good: Tensor
    share_bad: Tensor

    def __call__(self, decoder: Decoder, batch: Scored) -> LossSum:
        if batch.documents is None or batch.documents.good is None:
            return nothing(decoder)
        given, good = self.given, batch.documents.good
        log_ratio, token_loss, (balance, loads) = given.answers(decoder, batch)
        losses = kto_loss(
            log_ratio, good, self.reference_point, beta=given.beta, good_weight=given.good_weight, bad_weight=given.bad_weight
        )  # fmt: skip
        reward = given.beta * log_ratio.detach()
        good_reward = (reward * good).sum() / self.share_good.clamp(min=1e-9)
        bad_reward = (reward * ~good).sum() / self.share_bad.clamp(min=1e-9)
        right = ((log_ratio > self.reference_point) == good).float().sum()
        return LossSum(
            loss_sum=losses.sum(), target_count=batch.target_count, auxiliary=given.sft(token_loss[good]) | balance,
            figures={
                "chosen_reward": good_reward, "rejected_reward": bad_reward, "margin": good_reward - bad_reward, "accuracy": right,
                "reference_point": self.reference_point * batch.documents.units, **loads,
            },
        )  # fmt: skip
