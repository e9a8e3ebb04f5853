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
    """One model under its name, and its adapters under theirs. ``start`` within the loop that serves; ``stop`` once."""

    def __init__(self, model: LanguageModel, name: str, *, limits: Limits | None = None) -> None:
        self.model, self.name, self.limits = model, name, limits or Limits()
        self._models = {name: model, **{adapter: model.with_adapter(adapter) for adapter in model.adapters}}
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
        return tuple(self._models)

    def model_named(self, name: str | None) -> LanguageModel:
        """The base or an adapter on it; without a name the base. Raises RequestError for a name that is not here."""
        found = self.model if name is None else self._models.get(name)
        if found is None:
            here = " and ".join(f"'{one}'" for one in self.names)
            raise RequestError(f"there is no model '{name}'; this server has {here}", param="model", code="model_not_found")
        return found

    def name_of(self, request: Request) -> str:
        """What clients call the model that a request goes to."""
        return request.adapter or self.name

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

    async def embed(self, texts: Sequence[Sequence[int]], *, adapter: str | None = None) -> Tensor:
        """Vectors of length 1 [texts, hidden], computed between the steps of the answers that run; cancelling ends the work."""
        updates = None if adapter is None else self.model.adapters[adapter].updates
        work = embed(self.model.decoder, texts, part_tokens=self.worker.engine.scheduler.step_tokens, updates=updates)
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
