"""The HTTP server around the application: connections that stall are dropped, and a signal lets what runs end.

Rules: a first SIGINT or SIGTERM takes nothing new (new requests get 503), lets answers end, tells the clients of those that do not end in
time, then ends the server, so that whoever called it returns as usual; a second signal calls ``at_once``. A connection that takes nothing
of what was sent, or never completes the head of a request, is cut after ``stall_seconds``.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from beichen.serve.limits import Limits
from beichen.serve.service import Service

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MAX_HEAD = 1 << 16  # bytes of a request's line and headers
_WRITE_SECONDS = 5  # for the last bytes to leave, once all answers have ended


class Connection(HttpToolsProtocol):
    """One client's connection, with a limit on how long it may stand still and on the head of a request."""

    stall_seconds = Limits.stall_seconds
    _timer: asyncio.TimerHandle | None = None
    _head = 0  # bytes that have come since the last request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it as well: asyncio calls it with nothing else
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # a request has come in, whose body and answer have limits of their own
            self._head = 0
            self._calm()
        elif before is None or before.response_complete:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._cut()

    def on_response_complete(self) -> None:
        before = self.cycle
        super().on_response_complete()
        if self.cycle is before:  # else the next request was here already
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._calm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._calm()
        self._timer = self.loop.call_later(self.stall_seconds, self._cut)

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self.transport.abort()


class Server(uvicorn.Server):
    """``run`` returns when the server has ended; ``at_once`` is called in a signal's handler, for a second signal."""

    def __init__(
        self, app: FastAPI, service: Service, *, at_once: Callable[[int], object], ends: Callable[[int], object] = lambda answers: None,
        **settings: Any,
    ) -> None:  # fmt: skip
        """ends: called at the first signal with the number of answers that run or wait. settings: further ones of ``uvicorn.Config``."""
        connection = type("Connection", (Connection,), {"stall_seconds": service.limits.stall_seconds})
        super().__init__(
            uvicorn.Config(app, http=connection, ws="none", log_level="warning", timeout_graceful_shutdown=_WRITE_SECONDS, **settings)
        )
        self._service, self._at_once, self._ends = service, at_once, ends
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        self.cut_off = 0  # answers that did not end in time

    def end_soon(self) -> None:
        """Take nothing new; stop once everything has ended, or its time is over. From any thread, once the server has started."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._begin_end)

    def _begin_end(self) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        self._service.close()
        until = time.monotonic() + self._service.limits.shutdown_seconds
        while not self._service.idle and time.monotonic() < until:
            await asyncio.sleep(0.02)
        self.cut_off = self._service.cut_off()
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        self._loop = loop = asyncio.get_running_loop()
        try:
            for one in SIGNALS:
                loop.add_signal_handler(one, self._on_signal, one)
        except (ValueError, RuntimeError, NotImplementedError):  # not the main thread, or a system without: ``end_soon`` ends it
            yield
            return
        try:
            yield
        finally:
            for one in SIGNALS:
                loop.remove_signal_handler(one)

    def _on_signal(self, number: int) -> None:
        if self._ending is not None:
            self._at_once(number)
        else:
            self._ends(self._service.answering)
        self._begin_end()


def listen(host: str, port: int, *, stall_seconds: float) -> socket.socket:
    """The address, taken; nobody is let in yet. Raises OSError where it cannot be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # what the system itself holds for a client that takes nothing, after the answer's end
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * stall_seconds))
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
