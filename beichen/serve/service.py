"""A model behind an event loop: requests go to the engine's thread, pieces of their answers come back to whoever awaits them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from beichen.errors import BeichenError, RequestError
from beichen.inference.api import Delta, Request
from beichen.inference.embedding import embed
from beichen.inference.language_model import LanguageModel
from beichen.inference.worker import EngineWorker, Piece, Ticket


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server lets in."""

    max_model_len: int | None = None  # tokens of prompt and answer; None: the trained length
    max_waiting: int = 256  # requests
    max_body_bytes: int = 8 << 20
    shutdown_seconds: float = 30.0  # for what runs to end


class Service:
    """One model under one name. ``start`` within the loop that serves; ``stop`` once."""

    def __init__(self, model: LanguageModel, name: str, *, limits: Limits | None = None) -> None:
        self.model, self.name, self.limits = model, name, limits or Limits()
        self.created = int(time.time())
        self.max_model_len = self.limits.max_model_len or model.max_length
        self._listeners: dict[Ticket, tuple[asyncio.Queue[tuple[int, Delta | BeichenError]], int]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.worker = EngineWorker(model.generator, self._deliver, max_waiting=self.limits.max_waiting)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.worker.start()

    async def stop(self) -> bool:
        """Let what runs end.  -> whether it did in time"""
        return await asyncio.to_thread(self.worker.stop, timeout=self.limits.shutdown_seconds)

    @property
    def names(self) -> tuple[str, ...]:
        """What clients may call a model."""
        return (self.name,)

    def check_model(self, name: str | None) -> None:
        """Raises RequestError unless this is the model that the server has, or none is named."""
        if name not in (None, self.name):
            raise RequestError(f"there is no model '{name}'; this server has '{self.name}'", param="model", code="model_not_found")

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Delta]]:
        """The pieces of all answers as they come, each with its request's place. Closing the iterator frees what they hold."""
        queue: asyncio.Queue[tuple[int, Delta | BeichenError]] = asyncio.Queue()
        open_tickets: dict[int, Ticket] = {}
        try:
            for place, request in enumerate(requests):
                ticket = self.worker.submit(request, number=place)
                self._listeners[ticket] = (queue, place)
                open_tickets[place] = ticket
            while open_tickets:
                place, told = await queue.get()
                if isinstance(told, BeichenError):
                    raise told
                if told.finish_reason is not None:
                    del self._listeners[open_tickets.pop(place)]
                yield place, told
        finally:
            for ticket in open_tickets.values():
                del self._listeners[ticket]
                self.worker.cancel(ticket)

    async def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Vectors of length 1 [texts, hidden], computed between the steps of the answers that run; cancelling ends the work."""
        work = embed(self.model.decoder, texts, part_tokens=self.worker.engine.scheduler.step_tokens)
        return await asyncio.wrap_future(self.worker.run(work))

    def _deliver(self, pieces: Sequence[Piece]) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand_out, pieces)

    def _hand_out(self, pieces: Sequence[Piece]) -> None:
        for ticket, told in pieces:
            listener = self._listeners.get(ticket)
            if listener is not None:  # else nobody listens any more
                queue, place = listener
                queue.put_nowait((place, told))
