"""Direct preference optimization: the better answer of a pair is to gain on the worse one, by log-probabilities of whole answers.

``log_ratio`` is log p(answer) - log p_reference(answer). Rewards are ``beta`` times it.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from beichen.objectives.preference import PairObjective
from beichen.objectives.preference_settings import PreferenceSettings


def objective(settings: PreferenceSettings, reference: Tensor) -> PairObjective:
    """As the settings ask for it. reference [documents]"""
    loss = partial(dpo_loss, beta=settings.beta, label_smoothing=settings.label_smoothing)
    return PairObjective(
        loss=loss, reference=reference, beta=settings.beta, sft_weight=settings.sft_weight, per_token=settings.per_token
    )  # fmt: skip


def dpo_loss(log_ratio_chosen: Tensor, log_ratio_rejected: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimization (arXiv 2305.18290, equation 7); ``label_smoothing``: the share of pairs that may be the wrong way
    round (its conservative form).  [pairs], [pairs] -> [pairs]"""
    margin = beta * (log_ratio_chosen - log_ratio_rejected)
    return -(1.0 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)
