"""The threads that OpenMP keeps for whoever computes, torch's and ours alike: each thread of the program has helpers of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from beichen.nn.kernels import build

TOO_LONG = 0.5  # share of a step that a thread waits for the others: on cores of its own it is a tenth
DOUBTFUL = 0.8 * TOO_LONG  # as if it had been so: one more long wait is enough
FIRST_REST = 0.1  # seconds without a thread that was waited for; twice as many each time that it is no better
LONGEST_REST = 4.0


class Crew:
    """How many threads take a step in which all meet some forty times.

    Where another program computes on one of their cores, every meeting waits until the thread of that core has its turn: a step takes ten
    times as long, with one thread fewer hardly longer than its share of cores says. So a thread rests where the others wait for it,
    and is tried again later.
    """

    def __init__(self, most: Callable[[], int] = torch.get_num_threads, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._waited = 0.0  # of late
        self._resting = 0
        self._trying = False  # whether one has come back of whom it is not known yet if the others wait for it
        self._rest = FIRST_REST
        self._until = 0.0

    def size(self) -> int:
        """Threads of the next step."""
        if self._resting and not self._trying and self._clock() >= self._until:
            self._resting -= 1
            self._trying, self._waited = True, DOUBTFUL
        return max(1, self._most() - self._resting)

    def tell(self, waited: float) -> None:
        """waited: the share of a step for which the thread waited that waited longest."""
        self._waited += (waited - self._waited) / 4
        if self._waited > TOO_LONG and self.size() > 1:
            self._rest = min(2 * self._rest, LONGEST_REST) if self._trying else FIRST_REST
            self._resting += 1
            self._trying, self._waited = False, DOUBTFUL
            self._until = self._clock() + self._rest
        elif self._trying and self._waited < TOO_LONG / 2:
            self._trying, self._until = False, self._clock()


crew = Crew()  # the process's: its cores are


def end_helpers() -> None:
    """End the helpers that the calling thread has from what it computed; where it computes again, it gets new ones.

    A process with more of them than cores makes OpenMP put them to sleep at every meeting instead of letting them wait awake: a step that
    meets forty times takes a tenth longer. Without compiled kernels nothing meets as often, and nothing is done.
    """
    if build.library() is not None:
        build.function("end_helpers", ">i")()
