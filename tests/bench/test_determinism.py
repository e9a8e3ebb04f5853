"""The two settings that are timed are what they are called, and the verdict is their ratio."""

from __future__ import annotations

import torch

from bench import report, verdicts
from bench.determinism import both_ways
from bench.records import Run
from bench.verdicts import DEFAULT, DETERMINISTIC

RUN = Run(command="python -m bench determinism", commit="abc", date="2026-01-01 00:00:00", machine="a machine", torch="2.13.0")


def test_one_step_runs_with_deterministic_algorithms_and_one_without():
    steps = both_ways("a step", torch.are_deterministic_algorithms_enabled)
    assert steps[f"a step: {DETERMINISTIC}"]() is True and steps[f"a step: {DEFAULT}"]() is False
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_verdict_is_the_share_of_the_speed_that_is_left():
    rows = [RUN.record("determinism", f"a step: {name}", [value], "tok/s") for name, value in ((DETERMINISTIC, 90.0), (DEFAULT, 100.0))]
    assert verdicts.of_default_speed(rows) == [("a step", 0.9)]
    assert "- a step: **0.900** of the speed without them" in report.section_text("determinism", rows)
