"""``/v1/chat/completions``: pieces of text become deltas, and deltas a whole answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Literal

from beichen.inference.api import Delta
from beichen.inference.api import TokenLogprob as Told
from beichen.inference.usage import token_usage
from beichen.serve.asking import ChatTurn
from beichen.serve.schemas.chat import (
    LEAST_LOGPROB,
    AnswerDelta,
    AnswerMessage,
    Call,
    CallDelta,
    CalledFunction,
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChoiceLogprobs,
    ChunkChoice,
    FinishReason,
    FunctionDelta,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from beichen.serve.service import Service
from beichen.text.answers.events import CallArguments, CallBegin, Event, Said, Thought
from beichen.text.answers.message import MessageParts, end_reason
from beichen.text.answers.stream import AnswerStream
from beichen.text.tokenizer import Tokenizer


class ChoiceReader:
    """One answer of a turn: what each delta of the engine says to the client."""

    def __init__(self, turn: ChatTurn, tokenizer: Tokenizer, *, parallel: bool = True) -> None:
        """parallel: whether the client takes more than one call; if not, only the first is told."""
        self._stream = AnswerStream(turn.form, in_thought=turn.in_thought, calls=turn.calls)
        self._tokenizer, self._parallel, self._offered = tokenizer, parallel, turn.calls
        self._before = list(self._stream.push(turn.opened)) if turn.opened else []
        self.tokens = 0
        self.called = False
        self.finish_reason: FinishReason | None = None
        self.logprobs: list[TokenLogprob] = []

    def read(self, delta: Delta) -> list[AnswerDelta]:
        """What the client is told."""
        return [told for event in self.events(delta) if (told := _told(event)) is not None]

    def events(self, delta: Delta) -> list[Event]:
        """What the answer says, as far as the client takes it."""
        self.tokens += len(delta.ids)
        self.logprobs = [token_logprob(self._tokenizer, one) for one in delta.logprobs or ()]
        events: list[Event] = [*self._before, *self._stream.push(delta.text)]
        self._before = []
        if delta.finish_reason is not None:
            events += self._stream.finish()
        if not self._parallel:
            events = [event for event in events if not isinstance(event, CallBegin | CallArguments) or not event.index]
        if self._offered and not self.called:
            self.called = any(isinstance(event, CallBegin) for event in events)
        if delta.finish_reason is not None:
            own: Literal["stop", "length"] = "length" if delta.finish_reason == "length" else "stop"
            self.finish_reason = end_reason(own, called=self.called)
        return events


def _told(event: Event) -> AnswerDelta | None:
    if isinstance(event, Said):
        return AnswerDelta(content=event.text)
    if isinstance(event, Thought):
        return AnswerDelta(reasoning_content=event.text)
    if isinstance(event, CallBegin):
        function = FunctionDelta(name=event.name, arguments="")
        return AnswerDelta(tool_calls=[CallDelta(index=event.index, id=_call_id(), type="function", function=function)])
    if isinstance(event, CallArguments):
        return AnswerDelta(tool_calls=[CallDelta(index=event.index, function=FunctionDelta(arguments=event.text))])
    return None


class WholeChoice:
    """One answer of a turn, read to its end."""

    def __init__(self, reader: ChoiceReader) -> None:
        self._reader = reader
        self._parts = MessageParts()
        self._logprobs: list[TokenLogprob] = []

    def read(self, delta: Delta) -> None:
        for event in self._reader.events(delta):
            self._parts.add(event)
        self._logprobs += self._reader.logprobs

    def choice(self, turn: ChatTurn, *, index: int = 0) -> ChatChoice:
        """As the client gets it."""
        assert self._reader.finish_reason is not None
        told = None if turn.request.logprobs is None else ChoiceLogprobs(content=self._logprobs)
        return ChatChoice(index=index, message=self._message(), logprobs=told, finish_reason=self._reader.finish_reason)

    def _message(self) -> AnswerMessage:
        parts = self._parts
        calls = [Call(id=_call_id(), function=CalledFunction(name=call.name, arguments=call.arguments)) for call in parts.calls]
        return AnswerMessage(
            content=None if calls and not parts.content else parts.content, reasoning_content=parts.thought or None,
            tool_calls=calls or None,
        )  # fmt: skip


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


async def whole_answer(service: Service, turn: ChatTurn, *, count: int, parallel: bool) -> ChatAnswer:
    """All choices, once they have ended."""
    readers = [ChoiceReader(turn, service.model.tokenizer, parallel=parallel) for _ in range(count)]
    answers = [WholeChoice(reader) for reader in readers]
    async for place, delta in service.answer([turn.request] * count):
        answers[place].read(delta)
    choices = [answer.choice(turn, index=place) for place, answer in enumerate(answers)]
    return ChatAnswer(
        id=new_id("chatcmpl"), created=int(time.time()), model=service.name_of(turn.request), choices=choices, usage=usage(turn, readers)
    )


async def answer_events(service: Service, turn: ChatTurn, *, count: int, parallel: bool, with_usage: bool) -> AsyncGenerator[str]:
    """The same as JSON texts of chunks, as they come."""
    name, created = new_id("chatcmpl"), int(time.time())
    readers = [ChoiceReader(turn, service.model.tokenizer, parallel=parallel) for _ in range(count)]

    def chunk(choices: list[ChunkChoice], total: Usage | None = None) -> str:
        return ChatChunk(id=name, created=created, model=service.name_of(turn.request), choices=choices, usage=total).as_json()

    greeted = False
    async for place, delta in service.answer([turn.request] * count):
        if not greeted:  # not before: what keeps all answers from beginning is said by a status
            greeted = True
            for number in range(count):
                yield chunk([ChunkChoice(index=number, delta=AnswerDelta(role="assistant", content=""))])
        reader = readers[place]
        for number, said in enumerate(_or_nothing(reader.read(delta), needed=bool(reader.logprobs))):
            told = ChoiceLogprobs(content=reader.logprobs) if reader.logprobs and not number else None
            yield chunk([ChunkChoice(index=place, delta=said, logprobs=told)])
        if reader.finish_reason is not None:
            yield chunk([ChunkChoice(index=place, delta=AnswerDelta(), finish_reason=reader.finish_reason)])
    if with_usage:
        yield chunk([], usage(turn, readers))


def _or_nothing(deltas: list[AnswerDelta], *, needed: bool) -> Iterator[AnswerDelta]:
    """The deltas, or an empty one to carry log-probabilities of tokens that have no text yet."""
    yield from deltas or ([AnswerDelta(content="")] if needed else [])


def usage(turn: ChatTurn, readers: list[ChoiceReader]) -> Usage:
    """Tokens of the prompt, counted once, and of all answers."""
    return Usage(**token_usage([turn.request], sum(reader.tokens for reader in readers)))


def token_logprob(tokenizer: Tokenizer, told: Told) -> TokenLogprob:
    """As clients read it: bytes exactly, text as far as the bytes are text."""

    def named(token: int, logprob: float) -> TopLogprob:
        spelled = tokenizer.token_bytes(token)
        return TopLogprob(token=spelled.decode("utf-8", "replace"), logprob=max(logprob, LEAST_LOGPROB), bytes=list(spelled))

    own = named(told.id, told.logprob)
    return TokenLogprob(token=own.token, logprob=own.logprob, bytes=own.bytes, top_logprobs=[named(*one) for one in told.top])


def new_id(kind: str) -> str:
    """``kind-`` and 24 random letters."""
    return f"{kind}-{secrets.token_hex(12)}"


def as_event(text: str) -> str:
    """One server-sent event."""
    return f"data: {text}\n\n"
