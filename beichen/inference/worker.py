"""A generator's engine in a thread of its own, for many who ask at once and must not wait for each other.

Pieces of answers are delivered as they come, all pieces of one step in one call, so that a server's event loop is woken once. Rules kept:
what is waiting is bounded; a stranger's constraint is compiled by whoever asks, never here; who goes away frees blocks before the next
step; a fault of one request ends that request alone, and a fault of the engine ends every request with the same words instead of leaving
them to wait forever; other work on the model is done in parts, one between two steps.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from beichen.errors import BeichenError, OverloadError, ShutdownError
from beichen.inference.answering import Answer
from beichen.inference.api import Delta, Request
from beichen.inference.constraints import ConstrainedAnswer
from beichen.inference.generation import DecoderGenerator
from beichen.nn import kernels

Result = TypeVar("Result")

PIECES = 160  # a second, of all answers together: what sending more takes from the model is felt, and nobody reads faster
CROWD = 8  # answers that are told something in one step
LONGEST_PAUSE = 0.25  # seconds between two pieces of one answer, however many there are


@dataclass(eq=False)
class Ticket:
    """One request in the worker's hands."""

    request: Request
    number: int = 0
    constraint: ConstrainedAnswer | None = None  # where the answer begins, as ``prepare`` gave it
    answer: Answer | None = None  # once the engine has it
    cancelled: bool = False
    due: float = 0.0  # monotonic seconds at which it is told what has come

    @property
    def begun(self) -> bool:
        """Whether the engine has taken it up; until then it waits in a queue."""
        return self.answer is not None and bool(self.answer.sequence.table or self.answer.sequence.finish_reason)


Piece = tuple[Ticket, Delta | BeichenError]  # what a ticket is told; an error, or a delta with a finish_reason, is its last
Deliver = Callable[[Sequence[Piece]], None]


class EngineWorker:
    """``submit`` from any thread; ``deliver`` is called in the worker's."""

    def __init__(self, generator: DecoderGenerator, deliver: Deliver, *, max_waiting: int = 256, interval: float = 0.0) -> None:
        """max_waiting: requests that may wait for the engine; more are refused. interval: seconds between two pieces of an answer,
        so that many quick ones do not keep the cores from the engine; with many answers at once it grows, unless it is 0. The first piece
        of an answer and its last never wait."""
        self.generator, self.engine = generator, generator.engine
        self.max_waiting = max_waiting
        self._pauses = Pauses(interval)
        self._deliver = deliver
        self._condition = threading.Condition()
        self._arrived: deque[Ticket] = deque()
        self._gone: deque[Ticket] = deque()
        self._active: list[Ticket] = []
        self._works: deque[tuple[Generator[bool, None, Any], Future[Any]]] = deque()
        self._working = self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """From the thread that loaded the model, whose helpers are in the way from now on."""
        kernels.end_helpers()
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that the engine has not begun."""
        return len(self._arrived) + self.engine.scheduler.waiting

    @property
    def running(self) -> int:
        return len(self.engine.scheduler.running)

    @property
    def idle(self) -> bool:
        """Whether nobody is being answered, and nothing has come in."""
        with self._condition:
            return not (self._arrived or self._gone or self._active or self._works or self._working)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def prepare(self, request: Request) -> ConstrainedAnswer | None:
        """What may take long and needs no engine, in the caller's thread, once for each answer. Raises SettingsError for a request that
        could never be answered."""
        self.generator.check(request)
        return self.generator.constrain(request)

    def submit(self, request: Request, *, number: int = 0, constraint: ConstrainedAnswer | None = None) -> Ticket:
        """constraint: of a request that was prepared. Raises SettingsError for a request that could never be answered, OverloadError
        where too many wait, ShutdownError where nothing is taken any more."""
        if constraint is None:
            constraint = self.prepare(request)
        with self._condition:
            if self._stopping or not self.alive:
                raise ShutdownError("the server is shutting down")
            if self.waiting >= self.max_waiting:
                raise OverloadError(f"{self.waiting} requests are waiting, which is as many as may", remedy="try again a little later")
            ticket = Ticket(request, number, constraint)
            self._arrived.append(ticket)
            self._condition.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Nobody listens any more. What it holds is free before the next step."""
        with self._condition:
            ticket.cancelled = True
            self._gone.append(ticket)
            self._condition.notify()

    def run(self, work: Generator[bool, None, Result]) -> Future[Result]:
        """Do other work on the model, in parts; what it yields behind each says whether other work may go first. Cancelling the future
        drops the rest. Raises OverloadError where too much waits."""
        future: Future[Result] = Future()
        with self._condition:
            if self._stopping or not self.alive:
                raise ShutdownError("the server is shutting down")
            if len(self._works) >= self.max_waiting:
                raise OverloadError(f"{len(self._works)} requests are waiting, which is as many as may", remedy="try again a little later")
            self._works.append((work, future))
            self._condition.notify()
        return future

    def drop_works(self, fault: BeichenError) -> None:
        """End what ``run`` was given, with a fault for whoever waits."""
        with self._condition:
            for _, future in self._works:
                _settle(future, None, fault)

    def close(self) -> None:
        """Take nothing new; the thread ends with what is there."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    def stop(self, *, timeout: float | None = None) -> bool:
        """Take nothing new, end what is there.  -> whether all ended in time (seconds)"""
        self.close()
        self._thread.join(timeout)
        return not self.alive

    def _run(self) -> None:
        while True:
            with self._condition:
                self._working = False
                while not (self._arrived or self._gone or self._active or self._works or self._stopping):
                    self._condition.wait()
                arrived, gone = list(self._arrived), list(self._gone)
                self._arrived.clear()
                self._gone.clear()
                if self._stopping and not (arrived or self._active or self._works):
                    return
                self._working = True
            try:
                pieces = self._admit(arrived) + self._step(gone)
            except Exception as fault:  # of the engine itself: nobody may wait for it forever
                pieces = [(ticket, BeichenError(f"the engine failed: {fault!r}")) for ticket in {*self._active, *arrived}]
                for ticket in self._active:
                    if ticket.answer is not None:
                        ticket.answer.cancel()
                self._active = []
            if pieces:
                self._deliver(pieces)
            if self._works:
                self._do_part()

    def _do_part(self) -> None:
        work, future = self._works[0]
        again: bool | None = None
        result: Any = None
        fault: Exception | None = None
        try:
            again = None if future.done() else next(work)
        except StopIteration as end:
            result = end.value
        except Exception as found:
            fault = found
        with self._condition:
            if again is None:
                _settle(future, result, fault)
            if again is not False:
                self._works.popleft()
            if again:
                self._works.append((work, future))

    def _admit(self, arrived: Sequence[Ticket]) -> list[Piece]:
        pieces: list[Piece] = []
        for ticket in arrived:
            if ticket.cancelled:
                continue
            try:
                ticket.answer = self.generator.begin(ticket.request, number=ticket.number, constraint=ticket.constraint)
                self._active.append(ticket)
            except BeichenError as fault:
                pieces.append((ticket, fault))
        return pieces

    def _step(self, gone: Sequence[Ticket]) -> list[Piece]:
        for ticket in gone:
            if ticket.answer is not None:
                ticket.answer.cancel()
        if gone:
            self._active = [ticket for ticket in self._active if not ticket.cancelled]
        self.engine.step()
        pieces: list[Piece] = []
        going_on: list[Ticket] = []
        now = time.monotonic()
        for ticket in self._active:
            assert ticket.answer is not None
            if now < ticket.due and not ticket.answer.urgent:
                going_on.append(ticket)
                continue
            try:
                delta = ticket.answer.next()
            except BeichenError as fault:
                pieces.append((ticket, fault))
                continue
            if delta is not None:
                pieces.append((ticket, delta))
                ticket.due = self._pauses.next(now, answers=len(self._active))
            if delta is None or delta.finish_reason is None:
                going_on.append(ticket)
        self._active = going_on
        return pieces


class Pauses:
    """When answers are told what has come: each after a pause, in small crowds one after another. Every crowd wakes the server once, which
    costs more than what it is told; one of everybody would stop the engine."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._last = 0.0

    def next(self, now: float, *, answers: int) -> float:
        """now: monotonic seconds at which one of so many answers was told something.  -> when it is told more: after about a pause"""
        if not self._least:
            return now
        pause = max(self._least, min(answers / PIECES, LONGEST_PAUSE))
        self._last = min(max(now + pause, self._last + pause / answers), now + 2 * pause)
        slot = pause / math.ceil(answers / CROWD)
        return round(self._last / slot) * slot


def _settle(future: Future[Any], value: Any, fault: Exception | None) -> None:
    """Unless nobody waits for it any more, or it has been settled."""
    if not future.done() and future.set_running_or_notify_cancel():
        if fault is None:
            future.set_result(value)
        else:
            future.set_exception(fault)
