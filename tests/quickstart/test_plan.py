"""Laws of the plan: it spends the minutes it is given, never grows on a slower machine, and says what it chose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.quickstart.plan import BUNDLED_MINUTES, FULL, FULL_PEAK, SMALL, TINY, ModelSize, Plan, make_plan

peaks = st.floats(1.0, 1e5)
some_minutes = st.floats(0.01, 1000.0)
SIZES = (TINY, SMALL, FULL)


def plan_of(peak: float = FULL_PEAK, minutes: float = BUNDLED_MINUTES, **changes: Any) -> Plan:
    asked: dict[str, Any] = {"float32_peak": peak, "bfloat16_peak": peak, "bundled": True, "with_dialogues": True}
    return make_plan(minutes=minutes, **{**asked, **changes})


@given(peaks, some_minutes, st.booleans(), st.booleans())
def test_the_minutes_are_spent_and_none_beyond(peak, minutes, bundled, with_dialogues):
    plan = plan_of(peak, minutes, bundled=bundled, with_dialogues=with_dialogues)
    assert plan.pretraining_minutes + plan.fine_tuning_minutes == pytest.approx(minutes)
    assert plan.pretraining_minutes > 0 and (plan.fine_tuning_minutes > 0) == with_dialogues


@given(peaks, peaks, some_minutes, some_minutes)
def test_less_machine_or_less_time_never_gives_a_larger_model(peak, other_peak, minutes, other_minutes):
    less = plan_of(min(peak, other_peak), min(minutes, other_minutes))
    more = plan_of(max(peak, other_peak), max(minutes, other_minutes))
    assert SIZES.index(less.size) <= SIZES.index(more.size)


@given(peaks, some_minutes)
def test_a_smaller_model_is_said_with_its_size_and_its_cause(peak, minutes):
    plan = plan_of(peak, minutes)
    shrunk = [reason for reason in plan.reasons if "the plan shrinks to" in reason]
    assert bool(shrunk) == (plan.size is not FULL)
    assert all(f"hidden size {plan.size.hidden_size}: {peak:.0f} GFLOP/s" in reason for reason in shrunk)


def test_the_machine_of_the_promise_gets_the_full_plan_and_slow_ones_each_smaller_size():
    assert plan_of(350.0).size is FULL
    assert [plan_of(peak).size for peak in (FULL_PEAK / 3, FULL_PEAK / 10)] == [SMALL, TINY]


@given(peaks, peaks, st.sampled_from([None, "float32", "bfloat16"]))
def test_the_format_is_the_one_asked_for_or_the_clearly_faster_one(float32, bfloat16, dtype):
    plan = plan_of(float32_peak=float32, bfloat16_peak=bfloat16, dtype=dtype)
    assert plan.dtype == dtype if dtype else (plan.dtype == "bfloat16") == (bfloat16 > 1.3 * float32)
    assert plan.matmul_peak_gflops == (bfloat16 if plan.dtype == "bfloat16" else float32)
    assert f"computing in {plan.dtype}" in plan.reasons[0] and f"{plan.matmul_peak_gflops:.0f} GFLOP/s" in plan.reasons[0]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_can_be_built(size: ModelSize):
    assert size.hidden_size % size.num_attention_heads == 0
    assert size.hidden_size // size.num_attention_heads % 2 == 0, "rope turns pairs"
