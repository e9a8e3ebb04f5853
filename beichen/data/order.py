"""Orders that are drawn by key: the same (seed, purpose, number) gives the same permutation on every machine and in every process.

``Epochs`` finds a global row number in them: epoch after epoch, each made when it is first asked for.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sized
from functools import lru_cache
from threading import RLock
from typing import Generic, TypeVar

import numpy as np

from beichen.util.random import keyed_generator

T = TypeVar("T", bound=Sized)


def permutation(seed: int, purpose: str, index: int, count: int) -> np.ndarray:
    """The numbers 0 to ``count - 1`` in keyed random order. [count] int64"""
    return keyed_generator(seed, purpose, index).permutation(count)


class Epochs(Generic[T]):
    """What ``make(number)`` gives, the last two kept; its length is its rows. Several threads may ask at once."""

    def __init__(self, make: Callable[[int], T], *, steady: bool) -> None:
        """``steady``: all epochs have as many rows as the first, so that none must be made to find a later one."""
        self._make, self._steady = lru_cache(maxsize=2)(make), steady
        self._begins = [0]  # first row of each epoch met so far
        self._lock = RLock()

    def __getitem__(self, number: int) -> T:
        with self._lock:
            return self._make(number)

    def locate(self, index: int) -> tuple[int, int]:
        """(epoch, place within it) of a global row number."""
        with self._lock:
            if self._steady:
                return divmod(index, len(self._make(0)))
            while self._begins[-1] <= index:
                self._begins.append(self._begins[-1] + len(self._make(len(self._begins) - 1)))
            number = bisect.bisect_right(self._begins, index) - 1
            return number, index - self._begins[number]
