"""Preference losses as the papers have them: pure functions of log-probabilities of whole answers, one loss for each pair or example.

``log_ratio`` is log p(answer) - log p_reference(answer). Rewards are ``beta`` times it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo_loss(log_ratio_chosen: Tensor, log_ratio_rejected: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimization (arXiv 2305.18290, equation 7); ``label_smoothing``: the share of pairs that may be the wrong way
    round (its conservative form).  [pairs], [pairs] -> [pairs]"""
    margin = beta * (log_ratio_chosen - log_ratio_rejected)
    return -(1.0 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def ipo_loss(log_ratio_chosen: Tensor, log_ratio_rejected: Tensor, *, beta: float) -> Tensor:
    """Identity preference optimization (arXiv 2310.12036, equation 17; its tau is ``beta``).  [pairs], [pairs] -> [pairs]"""
    return (log_ratio_chosen - log_ratio_rejected - 1.0 / (2.0 * beta)).square()


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
