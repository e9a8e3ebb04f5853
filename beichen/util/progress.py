"""How long work reports itself: one small interface, drawn by ``cli/`` alone.

Library code takes ``reporter: Reporter = SILENT`` and never prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar: how much is done, and a few figures beside it (``loss=2.31``)."""

    def advance(self, amount: float = 1.0, **figures: float | str) -> None: ...

    def set(self, done: float, **figures: float | str) -> None: ...


class Reporter(Protocol):
    """Where long work says what it does."""

    def line(self, text: str) -> None:
        """One finished fact, kept on the screen."""

    def warn(self, text: str) -> None:
        """One thing the user should know, kept on the screen."""

    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> AbstractContextManager[Task]:
        """A bar with speed and time left; ``with reporter.track(...) as task``. begun: how much of it was done before, at another time."""


class _SilentTask:
    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        return

    def set(self, done: float, **figures: float | str) -> None:
        return


class SilentReporter:
    """Says nothing; the default of every library call."""

    def line(self, text: str) -> None:
        return

    def warn(self, text: str) -> None:
        return

    @contextmanager
    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> Iterator[Task]:
        yield _SilentTask()


SILENT: Reporter = SilentReporter()
