"""A model behind an event loop: requests go to the engine's thread, pieces of their answers come back to whoever awaits them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

from torch import Tensor

from beichen.errors import OverloadError, RequestError, ShutdownError
from beichen.inference.api import Delta, Request
from beichen.inference.embedding import embed
from beichen.inference.language_model import LanguageModel
from beichen.inference.logprobs import Told
from beichen.inference.worker import EngineWorker, Piece, Ticket
from beichen.serve.inbox import Expected, Inbox
from beichen.serve.limits import Limits
from beichen.serve.metrics import Metrics
from beichen.serve.records import RequestRecord, current
from beichen.serve.unknown_model import no_such_model


class Service:
    """One model under its name, and its adapters under theirs. ``start`` within the loop that serves; ``stop`` once."""

    def __init__(self, model: LanguageModel, name: str, *, limits: Limits | None = None) -> None:
        self.model, self.name, self.limits = model, name, limits or Limits()
        self._models = {name: model, **{adapter: model.with_adapter(adapter) for adapter in model.adapters}}
        self.created = int(time.time())
        self.max_model_len = min(self.limits.max_model_len or model.max_length, model.generator.capacity)
        self._inboxes: dict[Ticket, Inbox] = {}
        self._held: Counter[str] = Counter()  # answers of each owner that run or wait
        self.closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.worker = EngineWorker(
            model.generator, self._deliver, max_waiting=self.limits.max_waiting, interval=self.limits.stream_interval
        )
        self.metrics = Metrics(self.worker, self.names)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.worker.start()

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now."""
        return self.worker.alive and not self.closing and self.worker.waiting < self.limits.max_waiting

    @property
    def answering(self) -> int:
        """Answers that somebody still waits for."""
        return sum(self._held.values())

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything, and the engine does nothing."""
        return not self.answering and self.worker.idle

    def close(self) -> None:
        """Take nothing new; what is there goes on."""
        self.closing = True

    def cut_off(self) -> int:
        """End what is there, with a fault that each client is told.  -> how many answers those are"""
        fault = ShutdownError("the server is shutting down, and its time to finish is over")
        count = self.answering
        for inbox in set(self._inboxes.values()):
            inbox.fail(fault)
        self.worker.drop_works(fault)
        return count

    async def stop(self) -> bool:
        """Let what runs end.  -> whether it did in time"""
        self.close()
        return await asyncio.to_thread(self.worker.stop, timeout=self.limits.shutdown_seconds)

    @property
    def names(self) -> tuple[str, ...]:
        """What clients may call a model."""
        return tuple(self._models)

    def model_named(self, name: str | None) -> LanguageModel:
        """The base or an adapter on it; without a name the base. Raises RequestError for a name that is not here."""
        found = self.model if name is None else self._models.get(name)
        if found is None:
            raise no_such_model(str(name), self.names, here="this server has", param="model")
        return found

    def name_of(self, request: Request) -> str:
        """What clients call the model that a request goes to."""
        return request.adapter or self.name

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Delta]]:
        """The pieces of all answers as they come, each with its request's place. Closing the iterator frees what they hold."""
        record = current.get()
        self._admit(requests)
        inbox = Inbox(self.limits, self.worker.cancel)
        try:
            await self._submit(requests, inbox)
            inbox.watch_time()
            while inbox.expected:
                answer, told = await inbox.next()
                if record is not None:
                    record.first = record.first or answer.first
                    record.answer_tokens += len(told.ids)
                if told.finish_reason is not None:
                    self._leave(inbox, answer, record, told)
                yield answer.place, told
        finally:
            inbox.close()
            for answer in list(inbox.expected.values()):
                self._leave(inbox, answer, record)
                self.worker.cancel(answer.ticket)
            self._held.subtract(request.owner for request in requests)
            self._held += Counter()  # forget owners that hold nothing

    def _admit(self, requests: Sequence[Request]) -> None:
        """Raises ShutdownError or OverloadError where nothing may be taken of this owner now, RequestError where so much never may; else
        counts the answers as its own."""
        if self.closing:
            raise ShutdownError("the server is shutting down")
        bound = self.limits.max_streams_per_key
        for owner, count in Counter(request.owner for request in requests).items():
            if bound is None or self._held[owner] + count <= bound:
                continue
            if count > bound:
                words = f"{count} answers are asked for at once (prompts times n or best_of), and a key may have {bound}"
                raise RequestError(words, param="n", remedy="ask for fewer, or start the server with a larger --max-streams-per-key")
            raise OverloadError(
                f"{self._held[owner]} answers of this key are on their way, and {bound} may be", remedy="try again when one has ended"
            )
        self._held.update(request.owner for request in requests)

    async def _submit(self, requests: Sequence[Request], inbox: Inbox) -> None:
        if requests:
            tokens = sum(len(one.prompt_ids) for one in {id(one): one for one in requests}.values())  # as usage counts
            self._note(self.name_of(requests[0]), tokens, (request.prompt_ids for request in requests))
        costly = any(request.constraint is not None for request in requests)
        prepare = self.worker.prepare
        constraints = await asyncio.to_thread(lambda: list(map(prepare, requests))) if costly else [None] * len(requests)
        for place, (request, constraint) in enumerate(zip(requests, constraints, strict=True)):
            ticket = self.worker.submit(request, number=place, constraint=constraint)
            self._inboxes[ticket] = inbox
            inbox.expected[ticket] = Expected(place, request, ticket)

    def _leave(self, inbox: Inbox, answer: Expected, record: RequestRecord | None, last: Delta | None = None) -> None:
        """An answer has ended with its ``last`` delta, or nobody waits for it any more."""
        ticket = answer.ticket
        del self._inboxes[ticket], inbox.expected[ticket]
        if record is not None:
            record.reasons.append("cancelled" if last is None or last.finish_reason is None else last.finish_reason)
        if answer.first is not None and ticket.answer is not None:
            self.metrics.note_answer(
                self.name_of(answer.request), prompt=len(answer.request.prompt_ids), shared=ticket.answer.sequence.shared,
                tokens=answer.tokens, first=answer.first, last=answer.last,
            )  # fmt: skip

    async def embed(self, texts: Sequence[Sequence[int]], *, adapter: str | None = None) -> Tensor:
        """Vectors of length 1 [texts, hidden], computed between the steps of the answers that run; cancelling ends the work.
        Raises ShutdownError where nothing is taken any more, OverloadError where too much waits."""
        name, tokens = adapter or self.name, sum(map(len, texts))
        self._note(name, tokens, texts)
        if self.closing:
            raise ShutdownError("the server is shutting down")
        updates = None if adapter is None else self.model.adapters[adapter].updates
        work = embed(self.model.decoder, texts, part_tokens=self.worker.engine.scheduler.step_tokens, updates=updates)
        vectors = await asyncio.wrap_future(self.worker.run(work))
        self.metrics.note_texts(name, tokens)
        return vectors

    async def prompt_logprobs(self, request: Request, *, alone: bool = False) -> Told:
        """How likely the model held the prompt's ids, found between the steps of the answers that run. alone: no answer follows.
        Raises as ``embed`` does."""
        if alone:
            self._note(self.name_of(request), len(request.prompt_ids), [request.prompt_ids])
        if self.closing:
            raise ShutdownError("the server is shutting down")
        self.worker.engine.check(request)
        return await asyncio.wrap_future(self.worker.run(self.worker.engine.prompt_logprobs(request)))

    def _note(self, model: str, tokens: int, prompts: Iterable[Sequence[int]]) -> None:
        """In the record of the request at hand, what it asks of which model."""
        record = current.get()
        if record is not None:
            record.model = model
            record.prompt_tokens += tokens
            if record.prompts is not None:
                record.prompts += [self.model.tokenizer.decode(ids, skip_special=False) for ids in prompts]

    def _deliver(self, pieces: Sequence[Piece]) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand_out, pieces)

    def _hand_out(self, pieces: Sequence[Piece]) -> None:
        now = time.perf_counter()
        for ticket, told in pieces:
            inbox = self._inboxes.get(ticket)
            if inbox is not None:  # else nobody listens any more
                inbox.put(ticket, told, now)
