"""``StepProfiler``: what the steps of a range spend their time on, operation by operation.

Out: ``profile/step-000012-1.json`` in the run's folder (a trace for chrome://tracing or Perfetto) for gradients, ``-2`` for the update, and
``-1.txt``, ``-2.txt`` with the operations by their own time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from beichen.util.files import prepare_folder, write_atomically

FOLDER = "profile"


class StepProfiler:
    """``with profiler(step):`` around what a step computes; steps outside of first to last (from 1, both included) pay nothing."""

    def __init__(self, run: Path, first: int, last: int) -> None:
        self._folder, self._first, self._last = run / FOLDER, first, last
        self._parts: Counter[int] = Counter()

    @contextmanager
    def __call__(self, step: int) -> Iterator[None]:
        if not self._first <= step <= self._last:
            yield
            return
        cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        with profile(activities=[ProfilerActivity.CPU, *cuda]) as found:
            yield
        self._parts[step] += 1
        stem = prepare_folder(self._folder) / f"step-{step:06d}-{self._parts[step]}"
        found.export_chrome_trace(f"{stem}.json")
        table = found.key_averages().table(sort_by=f"self_{'cuda' if cuda else 'cpu'}_time_total", row_limit=40)
        write_atomically(stem.with_suffix(".txt"), table)
