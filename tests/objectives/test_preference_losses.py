"""Preference losses, equal to the papers' formulas written out with the math module, and their limits."""

from __future__ import annotations

import math
import random

import pytest
import torch

from beichen.objectives.dpo import dpo_loss
from beichen.objectives.ipo import ipo_loss
from beichen.objectives.kto import kto_loss

RNG = random.Random(0)
PAIRS = [(RNG.uniform(-60, 60), RNG.uniform(-60, 60)) for _ in range(50)] + [(0.0, 0.0)]
CHOSEN, REJECTED = (torch.tensor([pair[side] for pair in PAIRS]) for side in (0, 1))


def sigma(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_dpo(beta, smoothing):
    """2305.18290 (7): -log sigma(beta log-ratio of the winner - beta that of the loser); conservative: an expectation over the order."""
    found = dpo_loss(CHOSEN, REJECTED, beta=beta, label_smoothing=smoothing)
    for (winner, loser), loss in zip(PAIRS, found.tolist(), strict=True):
        right, wrong = -math.log(sigma(beta * winner - beta * loser)), -math.log(sigma(beta * loser - beta * winner))
        assert loss == pytest.approx((1 - smoothing) * right + smoothing * wrong, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0])
def test_ipo(tau):
    """2310.12036 (17): (h(winner, loser) - 1 / (2 tau)) squared, h the log of the ratio of ratios."""
    for (winner, loser), loss in zip(PAIRS, ipo_loss(CHOSEN, REJECTED, beta=tau).tolist(), strict=True):
        assert loss == pytest.approx(((winner - loser) - 1 / (2 * tau)) ** 2, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("point", [0.0, 3.5])
def test_kto(beta, point):
    """2402.01306 (8): lambda_y - v, where v = lambda_D sigma(beta (r - z0)) of desirable and lambda_U sigma(beta (z0 - r)) of others."""
    desirable, undesirable = 1.0, 1.33
    good = torch.tensor([place % 3 != 0 for place in range(len(PAIRS))])
    found = kto_loss(CHOSEN, good, torch.tensor(point), beta=beta, good_weight=desirable, bad_weight=undesirable)
    for place, loss in enumerate(found.tolist()):
        ratio = PAIRS[place][0]
        if place % 3 != 0:
            expected = desirable - desirable * sigma(beta * (ratio - point))
        else:
            expected = undesirable - undesirable * sigma(beta * (point - ratio))
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_far_away_no_loss_or_gradient_overflows():
    far = torch.tensor([1e5, -1e5], requires_grad=True)
    loss = dpo_loss(far, -far, beta=1.0)
    assert loss.tolist() == [0.0, 2e5]
    assert torch.autograd.grad(loss.sum(), far)[0].isfinite().all()


def test_smoothing_has_its_least_loss_at_a_finite_margin():
    """Without it, a larger margin is always better; with it, sigma(margin) = 1 - smoothing is best."""
    margins = torch.linspace(-5, 10, 1501)
    best = margins[dpo_loss(margins, torch.zeros(1501), beta=1.0, label_smoothing=0.1).argmin()]
    assert float(best.sigmoid()) == pytest.approx(0.9, abs=1e-3)
