"""Figures appear as whole PNG files; the running mean is a mean."""

from __future__ import annotations

import math

import pytest

from beichen.evaluation.exact_match import Share
from beichen.evaluation.plots import plot_accuracy, plot_curves, running_mean

PNG = b"\x89PNG\r\n\x1a\n"


def test_curves_are_written(tmp_path):
    steps = list(range(200))
    losses = [4 * math.exp(-step / 50) + 0.1 * (step % 7) for step in steps]
    curves = {"training": (steps, losses), "held out": ([0, 100, 199], [4.0, 1.0, 0.5])}
    plot_curves(tmp_path / "loss.png", curves, title="Loss", x_label="step", y_label="nats per token", smooth=0.9, marks={"tuning": 120})
    content = (tmp_path / "loss.png").read_bytes()
    assert content.startswith(PNG) and len(content) > 5000


@pytest.mark.parametrize("count", [1, 12])
def test_bars_are_written(tmp_path, count):
    shares = {f"skill {number}": Share(right=90 + number % 10, total=100) for number in range(count)}
    plot_accuracy(tmp_path / "bars.png", shares, title="Accuracy", baselines={"skill 0": 0.5})
    assert (tmp_path / "bars.png").read_bytes().startswith(PNG)


def test_the_running_mean_of_a_constant_is_the_constant_from_the_first_entry():
    assert running_mean([3.0] * 5, 0.9) == pytest.approx([3.0] * 5)
    mean = running_mean([1.0, 2.0, 6.0], 0.5)
    assert mean == pytest.approx([1.0, (0.25 * 1 + 0.5 * 2) / 0.75, (0.125 * 1 + 0.25 * 2 + 0.5 * 6) / 0.875])
