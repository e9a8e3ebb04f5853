"""Our contender of fine-tuning, as a process of its own: ``python -m bench.finetune_ours recipe.yaml``, the whole of ``beichen train``.

It takes turns through its reporter, which every step of training tells how far it is: nothing of the loop is replaced.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beichen.config import parse_settings
from beichen.train.kinds import KINDS
from beichen.train.metrics import read_metrics
from beichen.train.run import train
from beichen.train.run_folder import METRICS
from beichen.train.settings import TrainRecipe
from beichen.util.progress import SILENT, SilentReporter, Task
from bench.turn_taker import TurnTaker

REFERENCE = "reference"  # the label of scoring answers before preference training


class TurnReporter(SilentReporter):
    """Waits for its turn after every step of training; remembers how long the reference took."""

    def __init__(self, taker: TurnTaker, metrics: Path) -> None:
        self.taker, self.metrics, self.reference_seconds = taker, metrics, 0.0

    @contextmanager
    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> Iterator[Task]:
        begin = time.perf_counter()
        with SILENT.track(label, total=total, unit=unit, begun=begun) as silent:
            yield _Turns(self) if label in {kind.label for kind in KINDS.values()} else silent
        if label == REFERENCE:
            self.reference_seconds = time.perf_counter() - begin


class _Turns:
    """The bar of training: moved once a step, after the step's record was written."""

    def __init__(self, reporter: TurnReporter) -> None:
        self._reporter = reporter

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        raise AssertionError("training sets its bar")

    def set(self, done: float, **figures: float | str) -> None:
        before, now = [{"tokens": 0, "targets": 0}, *read_metrics(self._reporter.metrics)][-2:]
        self._reporter.taker.done(
            tokens=now["tokens"] - before["tokens"], targets=now["targets"] - before["targets"], loss=now["loss"],
            gradient_norm=now["gradient_norm"], reference_seconds=self._reporter.reference_seconds,
        )  # fmt: skip


def main() -> None:
    """Train until the turns end."""
    recipe = parse_settings(TrainRecipe, (), [Path(sys.argv[1])])
    train(recipe, TurnReporter(TurnTaker(), Path(recipe.out) / METRICS))


if __name__ == "__main__":
    main()
