"""Our ``Generator``: requests in, answers out, many at once or one as it grows, all over one engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial

from beichen.errors import SettingsError
from beichen.inference.api import Completion, Delta, FinishReason, Request
from beichen.inference.engine import KV_BYTES, MAX_ROWS, STEP_TOKENS, Engine
from beichen.inference.stopping import AnswerText
from beichen.nn.decoder import Decoder
from beichen.text.tokenizer import Tokenizer
from beichen.util.progress import SILENT, Reporter


class DecoderGenerator:
    """A decoder and its tokenizer that answer requests. Without a tokenizer it answers in ids alone."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer | None, *,
        max_rows: int = MAX_ROWS, kv_bytes: int = KV_BYTES, step_tokens: int = STEP_TOKENS,
    ) -> None:  # fmt: skip
        """max_rows, kv_bytes, step_tokens: as the engine's."""
        self.decoder, self.tokenizer = decoder, tokenizer
        vocab_size = decoder.config.vocab_size  # rows beyond the tokenizer's mean no text
        known = vocab_size if tokenizer is None else min(vocab_size, tokenizer.vocab_size)
        self._make = partial(Engine, decoder, vocab_size=known, max_rows=max_rows, kv_bytes=kv_bytes, step_tokens=step_tokens)
        self._engine: Engine | None = None
        self._weights: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
        """The answers, in the order of the requests."""
        engine = self._ready(requests)
        with self._lock:
            answers = [_Answer(self.tokenizer, engine, request) for request in requests]
        running = {answer.sequence: answer for answer in answers}
        try:
            with reporter.track("answering", total=len(requests), unit="answers") as task:
                while running:
                    with self._lock:
                        engine.step()
                        for answer in running.values():
                            answer.follow()
                    ended = [sequence for sequence, answer in running.items() if answer.reason is not None]
                    for sequence in ended:
                        del running[sequence]
                    if ended:
                        task.advance(len(ended))
        finally:
            with self._lock:
                for sequence in running:
                    engine.cancel(sequence)
        return [answer.completion() for answer in answers]

    def stream(self, request: Request) -> Iterator[Delta]:
        """One answer as it grows; closing the iterator frees what it holds."""
        return self._stream(self._ready([request]), request)

    def _stream(self, engine: Engine, request: Request) -> Iterator[Delta]:
        with self._lock:
            answer = _Answer(self.tokenizer, engine, request, streamed=True)
        said = 0
        try:
            while answer.reason is None:
                with self._lock:
                    if not answer.behind:  # else a neighbour's step has brought something already
                        engine.step()
                    text = answer.follow()
                if text or answer.reason is not None:
                    told = None if request.logprobs is None else tuple(answer.sequence.logprobs[said : len(answer.ids)])
                    yield Delta(text=text, ids=tuple(answer.ids[said:]), logprobs=told, finish_reason=answer.reason)
                    said = len(answer.ids)
        finally:
            with self._lock:
                engine.cancel(answer.sequence)

    def _ready(self, requests: Sequence[Request]) -> Engine:
        """The engine, made anew where the weights have changed: what its cache holds would be wrong."""
        weights = [(parameter.data_ptr(), parameter._version) for parameter in self.decoder.parameters()]
        with self._lock:
            if self._engine is None or weights != self._weights:
                self._engine, self._weights = self._make(), weights
        for request in requests:
            self._engine.check(request)
            if request.stop_strings and self.tokenizer is None:
                raise SettingsError("stop strings need a tokenizer, and this model has none", remedy="give stop_ids instead")
        return self._engine


class _Answer:
    """One answer while its ids come; its text is followed only where somebody needs it on the way."""

    def __init__(self, tokenizer: Tokenizer | None, engine: Engine, request: Request, *, streamed: bool = False) -> None:
        self.sequence = engine.submit(request)
        self.ids: list[int] = []
        self.reason: FinishReason | None = None
        self._tokenizer, self._engine, self._request = tokenizer, engine, request
        followed = streamed or bool(request.stop_strings)
        self._text = AnswerText(tokenizer, request.stop_strings, min_new_tokens=request.min_new_tokens) if followed else None
        self._shown = ""

    @property
    def behind(self) -> bool:
        """Whether the engine has brought more than was followed."""
        return self.sequence.finish_reason is not None or len(self.sequence.ids) > len(self._request.prompt_ids) + len(self.ids)

    def follow(self) -> str:
        """Take up what has come.  -> the text that it makes certain. Raises what kept the answer from going on as it was asked for."""
        if self.sequence.fault is not None:
            raise self.sequence.fault
        shown = ""
        for token in self.sequence.ids[len(self._request.prompt_ids) + len(self.ids) :]:
            if token in self.sequence.row.stop_ids:
                break
            self.ids.append(token)
            if self._text is None:
                continue
            shown += self._text.push(token)
            if self._text.stopped:
                self.reason = "stop"
                self._engine.end(self.sequence, "stop")
                break
        self.reason = self.reason or self.sequence.finish_reason
        if self.reason is not None and self._text is not None:
            shown += self._text.finish()
        self._shown += shown
        return shown

    def completion(self) -> Completion:
        assert self.reason is not None
        text = self._shown
        if self._text is None:
            text = "" if self._tokenizer is None else self._tokenizer.decode(self.ids)
        request = self._request
        return Completion(
            text=text, ids=tuple(self.ids), finish_reason=self.reason,
            logprobs=None if request.logprobs is None else tuple(self.sequence.logprobs[: len(self.ids)]),
            prompt_logprobs=self._engine.prompt_logprobs(request),
        )  # fmt: skip
