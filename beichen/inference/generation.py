"""Our ``Generator``: requests in, answers out, many at once or one as it grows, all over one engine."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial

from beichen.errors import BeichenError, SettingsError
from beichen.inference.adapter_batches import Adapters
from beichen.inference.answering import Answer
from beichen.inference.api import Completion, Delta, Request, in_order
from beichen.inference.constraints import ConstrainedAnswer, ConstraintCompiler
from beichen.inference.drafting import Drafting
from beichen.inference.engine import KV_BYTES, MAX_ROWS, STEP_TOKENS, Engine
from beichen.nn.decoder import Decoder
from beichen.text.tokenizer import Tokenizer
from beichen.util.progress import SILENT, Reporter

WINDOWS = 2  # requests in hand, in multiples of what runs at a time: what ends is followed at once by one that waits


class DecoderGenerator:
    """A decoder and its tokenizer that answer requests. Without a tokenizer it answers in ids alone."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer | None, *,
        max_rows: int = MAX_ROWS, kv_bytes: int = KV_BYTES, step_tokens: int = STEP_TOKENS, adapters: Adapters | None = None,
    ) -> None:  # fmt: skip
        """max_rows, kv_bytes, step_tokens, adapters: as the engine's."""
        self.decoder, self.tokenizer, self.adapters = decoder, tokenizer, adapters or {}
        self.resize(max_rows=max_rows, kv_bytes=kv_bytes, step_tokens=step_tokens)
        self._constraints = None if tokenizer is None else ConstraintCompiler(tokenizer)
        self._weights: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def resize(
        self, *, max_rows: int = MAX_ROWS, kv_bytes: int = KV_BYTES, step_tokens: int = STEP_TOKENS, drafting: Drafting | None = None
    ) -> None:
        """Other limits, for an engine made anew. drafting: who guesses several ids ahead."""
        vocab_size = self.decoder.config.vocab_size  # rows beyond the tokenizer's mean no text
        known = vocab_size if self.tokenizer is None else min(vocab_size, self.tokenizer.vocab_size)
        self._make = partial(
            Engine,
            self.decoder,
            vocab_size=known,
            max_rows=max_rows,
            kv_bytes=kv_bytes,
            step_tokens=step_tokens,
            drafting=drafting,
            adapters=self.adapters,
        )
        self._engine: Engine | None = None

    def generate(self, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
        """The answers, in the order of the requests."""
        return in_order(self, requests, reporter=reporter)

    def each(self, requests: Iterable[Request]) -> Generator[tuple[int, Completion | BeichenError]]:
        """The answers as they end, each with its request's place, or the fault that it met in place of one."""
        engine, coming, all_came = self.engine, enumerate(requests), False
        running: dict[int, Answer] = {}
        try:
            while running or not all_came:
                ended: list[tuple[int, Completion | BeichenError]] = []
                while not all_came and len(running) < WINDOWS * engine.scheduler.max_rows:
                    place, request = next(coming, (0, None))
                    if request is None:
                        all_came = True
                        break
                    try:
                        self.check(request)
                        with self._lock:
                            running[place] = self.begin(request, streamed=False)
                    except BeichenError as fault:
                        ended.append((place, fault))
                with self._lock:
                    if running:
                        engine.step()
                    ended += self._ended(running)
                for place, _ in ended:
                    running.pop(place, None)
                yield from ended
        finally:
            with self._lock:
                for answer in running.values():
                    answer.cancel()

    @staticmethod
    def _ended(running: Mapping[int, Answer]) -> Iterator[tuple[int, Completion | BeichenError]]:
        for place, answer in running.items():
            try:
                answer.follow()
                if answer.reason is not None:
                    yield place, answer.completion()
            except BeichenError as fault:
                yield place, fault

    def stream(self, request: Request) -> Iterator[Delta]:
        """One answer as it grows; closing the iterator frees what it holds."""
        self.check(request)
        return self._stream(self.engine, request)

    def _stream(self, engine: Engine, request: Request) -> Iterator[Delta]:
        with self._lock:
            answer = self.begin(request)
        try:
            while answer.reason is None:
                with self._lock:
                    if not answer.behind:  # else a neighbour's step has brought something already
                        engine.step()
                    delta = answer.next()
                if delta is not None:
                    yield delta
        finally:
            with self._lock:
                answer.cancel()

    def begin(self, request: Request, *, number: int = 0, streamed: bool = True, constraint: ConstrainedAnswer | None = None) -> Answer:
        """Put a request into the engine's queue, for a caller that takes the engine's steps. number: which answer to it, of several.
        constraint: what ``constrain`` gave, from a caller that did not want to wait for it here."""
        constraint = constraint or self.constrain(request)
        return Answer(self.engine, self.tokenizer, request, constraint=constraint, number=number, streamed=streamed)

    def constrain(self, request: Request) -> ConstrainedAnswer | None:
        """Where an answer begins under its constraint, if there is one; takes as long as the constraint is to be compiled."""
        if request.constraint is None or self._constraints is None:
            return None
        return self._constraints.start(request.constraint, stop_ids=request.stop_ids)

    def check(self, request: Request) -> None:
        """Raises SettingsError for what could never be answered."""
        self.engine.check(request)
        if request.constraint is not None and self._constraints is not None:
            self._constraints.check(request.constraint)
        if request.stop_strings and self.tokenizer is None:
            raise SettingsError("stop strings need a tokenizer, and this model has none", remedy="give stop_ids instead")

    @property
    def capacity(self) -> int:
        """Tokens of a prompt with its answer that the key-value cache holds."""
        blocks = self.engine.blocks
        return blocks.count * blocks.size

    @property
    def engine(self) -> Engine:
        """Made anew where the weights have changed: what its cache holds would be wrong. While it works nobody may change them."""
        if self._engine is not None and self._engine.busy:
            return self._engine
        weights = [(parameter.data_ptr(), parameter._version) for parameter in self.decoder.parameters()]
        if self._engine is None or weights != self._weights:
            self._engine, self._weights = self._make(), weights
        return self._engine
