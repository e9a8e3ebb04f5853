"""Work that is done in parts, so that whoever runs it can do something else between two of them: a generator that returns the result."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def done(work: Generator[Any, None, Result]) -> Result:
    """All parts, one after another."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
