"""What every test runs under: one thread per worker, no network, examples of hypothesis that do not change from run to run."""

from __future__ import annotations

import os
from collections import Counter

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before torch and numpy are imported
    os.environ[name] = "1"
os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"

import hypothesis  # noqa: E402  (it may import numpy, which reads the settings above)
import pytest  # noqa: E402  (the same)

hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("steady")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per cause of skipping, instead of one per test."""
    causes: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
        causes["needs ../shared, which is not beside this clone" if reason.startswith("needs ../shared/") else reason] += 1
    for reason, number in causes.most_common():
        terminalreporter.write_line(f"skipped {number}: {reason}")
