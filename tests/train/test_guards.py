"""Guards: what is not finite is always a fault, a loss among its like never, one far above them is."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.errors import SettingsError
from beichen.train.guards import GuardSettings, judge, spike_score

WATCHFUL = GuardSettings(spike=6.0, window=16)


@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.booleans(), st.sampled_from([GuardSettings(), WATCHFUL]))
def test_what_is_not_finite_is_skipped(value, in_loss, settings):
    fault = judge(settings, loss=value if in_loss else 1.0, gradient_norm=1.0 if in_loss else value, recent=[])
    assert fault is not None and fault.remedy == "skip" and str(value) in fault.reason


@given(st.integers(0, 10**6))
def test_a_spike_is_far_above_and_only_far_above(seed):
    rng = random.Random(seed)
    recent = [rng.gauss(3.0, 0.1) for _ in range(40)]
    for loss in (min(recent), max(recent[-16:]) - 1e-9, 0.0):
        fault = judge(WATCHFUL, loss=loss, gradient_norm=1.0, recent=recent)
        assert fault is None or spike_score(loss, recent[-16:]) > 6.0
    assert judge(WATCHFUL, loss=0.0, gradient_norm=1.0, recent=recent) is None
    fault = judge(WATCHFUL, loss=6.0, gradient_norm=1.0, recent=recent)
    assert fault is not None and fault.remedy == "roll back"
    assert judge(GuardSettings(), loss=6.0, gradient_norm=1.0, recent=recent) is None
    assert judge(WATCHFUL, loss=6.0, gradient_norm=1.0, recent=recent[:15]) is None, "too few to tell"


@given(st.lists(st.floats(0.1, 10), min_size=9, max_size=60), st.floats(0.1, 10), st.floats(-5, 5), st.floats(0.5, 20))
def test_the_score_does_not_depend_on_unit_and_zero(recent, loss, shift, scale):
    score = spike_score(loss, recent)
    if score > 1e5 or abs(score) < 1e-6:
        return  # all alike: the smallest deviation that counts has a unit
    moved = spike_score(scale * loss, [scale * value for value in recent])
    assert moved == pytest.approx(score, rel=1e-6)


def test_one_wild_loss_hides_no_other():
    recent = [3.0 + 0.01 * (number % 5) for number in range(15)] + [1000.0]
    assert spike_score(5.0, recent) > 50


@pytest.mark.parametrize("values", [{"spike": 0.0}, {"window": 3}, {"leave_out": -1}, {"patience": 0}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(SettingsError, match="guards"):
        GuardSettings(**values)
