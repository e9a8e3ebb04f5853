"""Learning-rate factors: between 0 and 1, up during warmup, never up again, and ``final`` at the end."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.config import read_settings
from beichen.errors import SettingsError
from beichen.train.optimizer_settings import ScheduleSettings
from beichen.train.schedules import in_shares, phase_factor, rate_factor
from beichen.train.source_settings import RateSettings

NAMES = ("constant", "linear", "cosine", "stable")
SCHEDULES = st.builds(
    ScheduleSettings, name=st.sampled_from(NAMES), warmup=st.floats(0, 0.5), decay=st.floats(0.01, 1), final=st.floats(0, 1)
)


@given(SCHEDULES, st.floats(-0.5, 1.5))
def test_a_factor_is_a_share_of_the_peak(settings, progress):
    assert 0.0 <= rate_factor(settings, progress) <= 1.0


@given(SCHEDULES)
def test_up_during_warmup_then_never_up_again(settings):
    """``stable`` may decay from the very start, so its peak can lie within the warmup; the others peak at its end."""
    places = [place / 200 for place in range(201)]
    factors = [rate_factor(settings, place) for place in places]
    before = [factor for place, factor in zip(places, factors, strict=True) if place <= min(settings.warmup, 1 - settings.decay)]
    after = [factor for place, factor in zip(places, factors, strict=True) if place >= settings.warmup]
    assert before == sorted(before)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(after))


@given(SCHEDULES)
def test_the_end_is_final_and_the_first_step_learns(settings):
    expected = 1.0 if settings.name == "constant" else settings.final
    assert math.isclose(rate_factor(settings, 1.0), expected, abs_tol=1e-9)
    if settings.name == "constant" or settings.final > 0:
        assert rate_factor(settings, 0.0) > 0.0


@pytest.mark.parametrize("name", NAMES)
def test_no_warmup_starts_at_the_peak(name):
    assert rate_factor(ScheduleSettings(name=name, warmup=0.0), 0.0) == 1.0


def test_the_courses_by_hand():
    linear = ScheduleSettings(name="linear", warmup=0.2, final=0.1)
    assert rate_factor(linear, 0.1) == pytest.approx(0.101 / 0.2)  # 0.001 ahead, so that the first step is not lost
    assert rate_factor(linear, 0.6) == pytest.approx(0.1 + 0.9 * 0.5)
    cosine = ScheduleSettings(name="cosine", warmup=0.0)
    assert [rate_factor(cosine, place) for place in (0.25, 0.5)] == pytest.approx([0.5 + 0.5 * math.sqrt(0.5), 0.5])
    stable = ScheduleSettings(name="stable", warmup=0.0, decay=0.4, final=0.2)
    assert [rate_factor(stable, place) for place in (0.3, 0.6, 0.8, 0.9)] == pytest.approx([1.0, 1.0, 0.6, 0.4])
    assert rate_factor(ScheduleSettings(name="stable", decay=0.0), 1.0) == 1.0


def test_warmup_and_decay_in_steps():
    """Exactly so many: the factor rises by 1 / warmup_steps a step, and decays over the last decay_steps."""
    settings = in_shares(ScheduleSettings(name="stable", warmup_steps=4, decay_steps=10, final=0.1), 1000, tokens_per_step=64)
    factors = [rate_factor(settings, step / 1000, step=step) for step in range(1001)]
    assert factors[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert factors[989:991] == pytest.approx([1.0, 1.0]) and factors[995] == pytest.approx(0.55) and factors[1000] == pytest.approx(0.1)
    cosine = in_shares(ScheduleSettings(name="cosine", warmup_steps=200), 1000, tokens_per_step=64)
    assert rate_factor(cosine, 0.6, step=600) == pytest.approx(0.5)
    assert rate_factor(in_shares(ScheduleSettings(warmup_steps=0), None, tokens_per_step=64), 0.0) == 1.0


@pytest.mark.parametrize("key", ["warmup", "decay"])
def test_steps_and_tokens_exclude_each_other(key):
    with pytest.raises(SettingsError, match=f"{key}_steps and {key}_tokens both say"):
        read_settings(ScheduleSettings, {f"{key}_steps": 1, f"{key}_tokens": 1}, name="schedule")


def test_a_decay_that_cannot_be_placed_is_refused():
    settings = ScheduleSettings(decay_steps=10, warmup_steps=5)
    with pytest.raises(SettingsError, match="decay_steps=10"):
        in_shares(settings, None, tokens_per_step=64)
    with pytest.raises(SettingsError, match="decay_tokens=640: how many tokens"):
        in_shares(ScheduleSettings(decay_tokens=640), None, tokens_per_step=64)
    linear = in_shares(ScheduleSettings(name="linear", warmup_steps=5), None, tokens_per_step=64)
    assert rate_factor(linear, 0.5, step=9) == pytest.approx(0.5)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_steps_of_full_rows(name):
    """And with rows that are not full, the warmup follows the tokens that were read."""
    in_steps = in_shares(ScheduleSettings(name=name, warmup_steps=20, decay_steps=50), 100, tokens_per_step=64)
    in_tokens = in_shares(ScheduleSettings(name=name, warmup_tokens=20 * 64, decay_tokens=50 * 64), 100, tokens_per_step=64)
    for step in range(100):
        expected = rate_factor(in_steps, step / 100, step=step)
        assert rate_factor(in_tokens, step / 100, step=step, tokens=(step + 1) * 64) == pytest.approx(expected)
    assert rate_factor(in_tokens, 0.1, step=10, tokens=64) == pytest.approx(1 / 20)
    assert rate_factor(in_shares(ScheduleSettings(warmup_tokens=0), None, tokens_per_step=64), 0.0) == 1.0


@pytest.mark.parametrize("course", ["linear", "cosine"])
@pytest.mark.parametrize(("begin", "end", "warmup"), [(1.0, 1.0, 0.0), (1.0, 0.1, 0.0), (0.2, 0.6, 0.3), (0.5, 0.0, 0.5)])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_a_phase_goes_from_its_begin_to_its_end(course, begin, end, warmup, steps):
    settings = RateSettings(course=course, begin=begin, end=end, warmup=warmup)
    factors = [phase_factor(settings, step, steps) for step in range(steps)]
    assert all(0.0 <= factor <= max(begin, end) + 1e-12 for factor in factors)
    assert factors[-1] == pytest.approx(end if steps > 1 else begin)
    settled = factors[math.ceil(warmup * steps) :]
    assert settled == sorted(settled, reverse=begin > end)
    if not warmup:
        assert factors[0] == begin
        assert factors[steps // 2] == pytest.approx((begin + end) / 2) or steps < 3
    elif steps > 2:
        assert 0 < factors[0] < begin * 0.5
