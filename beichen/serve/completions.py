"""``/v1/completions``: several prompts, several answers to each, the best of more."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal

from beichen.inference.api import Completion, Delta, Request
from beichen.inference.logprobs import Told, best_of
from beichen.inference.usage import token_usage
from beichen.serve.chat import new_id
from beichen.serve.completion_logprobs import LogprobReader, joined
from beichen.serve.schemas.chat import Usage
from beichen.serve.schemas.completions import CompletionAnswer, CompletionChoice, CompletionLogprobs
from beichen.serve.service import Service
from beichen.text.tokenizer import Tokenizer

NOTHING = Completion(text="", ids=(), finish_reason="length")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a client wants of each prompt."""

    count: int  # answers
    best: int  # the best of so many
    echo: bool  # the prompt before each
    tell: bool  # log-probabilities, of what is echoed too
    nothing_new: bool = False  # the prompt alone


async def whole_completions(service: Service, requests: Sequence[Request], wanted: Wanted) -> CompletionAnswer:
    """``count`` answers to each prompt, chosen out of ``best`` by the mean log-probability of their tokens."""
    choices: list[CompletionChoice] = []
    tokens = 0
    for request in requests:
        before = await _echoed(service, request, wanted)
        answers = [NOTHING] * wanted.count if wanted.nothing_new else await _answers(service, request, wanted.best)
        tokens += sum(len(answer.ids) for answer in answers)
        for answer in answers if wanted.best == wanted.count else best_of(answers, wanted.count):
            told = _logprobs(service.model.tokenizer, before, answer) if wanted.tell else None
            text = before.text + answer.text
            choices.append(CompletionChoice(index=len(choices), text=text, logprobs=told, finish_reason=_reason(answer.finish_reason)))
    return CompletionAnswer(
        id=new_id("cmpl"), created=int(time.time()), model=service.name_of(requests[0]), choices=choices,
        usage=Usage(**token_usage(requests, tokens)),
    )  # fmt: skip


async def completion_events(
    service: Service, requests: Sequence[Request], wanted: Wanted, *, with_usage: bool
) -> AsyncGenerator[str]:  # fmt: skip
    """The same as JSON texts, as they come; there is no best of several."""
    name, created, tokens, count = new_id("cmpl"), int(time.time()), 0, wanted.count

    def event(choices: list[CompletionChoice], total: Usage | None = None) -> str:
        answer = CompletionAnswer(id=name, created=created, model=service.name_of(requests[0]), choices=choices, usage=total)
        return answer.model_dump_json(exclude={"usage"} if total is None else None)

    tokenizer = service.model.tokenizer
    readers: list[LogprobReader] = []
    for number, request in enumerate(requests):
        before = await _echoed(service, request, wanted)
        told = LogprobReader(tokenizer).read(before.ids, before.logprobs) if wanted.tell else None
        reason = "length" if wanted.nothing_new else None
        for place in range(count):
            readers.append(LogprobReader(tokenizer, offset=len(before.text)))
            if wanted.echo:
                yield event(
                    [CompletionChoice(index=number * count + place, text=before.text, logprobs=told, finish_reason=_reason(reason))]
                )
    asked = [] if wanted.nothing_new else [request for request in requests for _ in range(count)]
    async for place, delta in service.answer(asked):
        tokens += len(delta.ids)
        told = None if delta.logprobs is None else readers[place].read(delta.ids, delta.logprobs)
        yield event([CompletionChoice(index=place, text=delta.text, logprobs=told, finish_reason=_reason(delta.finish_reason))])
    if with_usage:
        yield event([], Usage(**token_usage(requests, tokens)))


@dataclass(frozen=True, kw_only=True)
class Echoed:
    """What stands before an answer."""

    text: str = ""
    ids: Sequence[int] = ()
    logprobs: Told = ()


async def _echoed(service: Service, request: Request, wanted: Wanted) -> Echoed:
    told = await service.prompt_logprobs(request, alone=wanted.nothing_new) if wanted.echo and wanted.tell else ()
    if not wanted.echo:
        return Echoed()
    return Echoed(text=service.model.tokenizer.decode(request.prompt_ids), ids=request.prompt_ids if told else (), logprobs=told)


async def _answers(service: Service, request: Request, count: int) -> list[Completion]:
    deltas: list[list[Delta]] = [[] for _ in range(count)]
    async for place, delta in service.answer([request] * count):
        deltas[place].append(delta)
    found = []
    for own in deltas:
        told = [one for delta in own for one in delta.logprobs or ()]
        reason = own[-1].finish_reason
        assert reason is not None
        found.append(Completion(
            text="".join(delta.text for delta in own), ids=tuple(token for delta in own for token in delta.ids), finish_reason=reason,
            logprobs=None if request.logprobs is None else tuple(told),
        ))  # fmt: skip
    return found


def _reason(reason: str | None) -> Literal["stop", "length"] | None:
    return None if reason is None else "length" if reason == "length" else "stop"


def _logprobs(tokenizer: Tokenizer, before: Echoed, answer: Completion) -> CompletionLogprobs:
    echoed = LogprobReader(tokenizer).read(before.ids, before.logprobs)
    return joined(echoed, LogprobReader(tokenizer, offset=len(before.text)).read(answer.ids, answer.logprobs or ()))
