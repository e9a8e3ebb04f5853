"""Identity preference optimization: the better answer of a pair is to lead the worse one by so much, and no more.

``log_ratio`` is log p(answer) - log p_reference(answer).
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from beichen.objectives.preference import PairObjective
from beichen.objectives.preference_settings import PreferenceSettings


def objective(settings: PreferenceSettings, reference: Tensor) -> PairObjective:
    """As the settings ask for it. reference [documents]"""
    loss = partial(ipo_loss, beta=settings.beta)
    return PairObjective(
        loss=loss, reference=reference, beta=settings.beta, sft_weight=settings.sft_weight, per_token=settings.per_token
    )  # fmt: skip


def ipo_loss(log_ratio_chosen: Tensor, log_ratio_rejected: Tensor, *, beta: float) -> Tensor:
    """Identity preference optimization (arXiv 2310.12036, equation 17; its tau is ``beta``).  [pairs], [pairs] -> [pairs]"""
    return (log_ratio_chosen - log_ratio_rejected - 1.0 / (2.0 * beta)).square()
