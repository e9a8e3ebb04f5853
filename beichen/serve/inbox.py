"""Pieces of answers for one client, between the engine that makes them and whoever sends them on.

Rules: what waits here is bounded, so that a client who does not read cannot fill the memory; an answer that the engine does not begin, or
does not end, in its time ends with a fault that says so. The times of pieces are those of their arrival, whenever they are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from beichen.errors import BeichenError, QueueTimeError, TimeLimitError
from beichen.inference.api import Delta, Request
from beichen.inference.worker import Ticket
from beichen.serve.limits import Limits


@dataclass
class Expected:
    """One answer that is on its way."""

    place: int
    request: Request
    ticket: Ticket
    tokens: int = 0
    first: float | None = None  # when its first piece came
    last: float | None = None


class Inbox:
    """Used within one event loop."""

    def __init__(self, limits: Limits, cancel: Callable[[Ticket], object]) -> None:
        """cancel: ends the engine's work for a ticket."""
        self._limits, self._cancel = limits, cancel
        self._pieces: asyncio.Queue[tuple[Expected, Delta] | BeichenError] = asyncio.Queue()
        self._failed = False
        self._timers: list[asyncio.TimerHandle] = []
        self.expected: dict[Ticket, Expected] = {}

    def watch_time(self) -> None:
        """From now on the limits of time hold."""
        loop = asyncio.get_running_loop()
        self._timers = [
            loop.call_later(self._limits.queue_seconds, self._check_begun),
            loop.call_later(self._limits.request_seconds, self._end_late),
        ]

    def put(self, ticket: Ticket, told: Delta | BeichenError, now: float) -> None:
        """A piece has come. A fault ends all."""
        if self._failed:
            return
        if isinstance(told, BeichenError):
            self.fail(told)
            return
        answer = self.expected[ticket]
        answer.first, answer.last = answer.first or now, now
        answer.tokens += len(told.ids)
        if self._pieces.qsize() >= self._limits.max_backlog:
            self.fail(TimeLimitError("the client does not read as fast as its answers come, and too much of them waits"))
        else:
            self._pieces.put_nowait((answer, told))

    async def next(self) -> tuple[Expected, Delta]:
        """The next piece, in the order of arrival. Raises what ended the answers."""
        told = await self._pieces.get()
        if isinstance(told, BeichenError):
            raise told
        return told

    def fail(self, fault: BeichenError) -> None:
        """Nothing more comes, and the engine's work ends at once, even if nobody reads on; what is here may still be read."""
        if not self._failed:
            self._failed = True
            self._pieces.put_nowait(fault)
            for ticket in self.expected:
                self._cancel(ticket)

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _check_begun(self) -> None:
        if not any(ticket.begun for ticket in self.expected):
            words = f"the engine had no room for {self._limits.queue_seconds:g} seconds"
            self.fail(QueueTimeError(words, remedy="try again a little later"))

    def _end_late(self) -> None:
        self.fail(TimeLimitError(f"the answer took longer than {self._limits.request_seconds:g} seconds, the most that this server gives"))
