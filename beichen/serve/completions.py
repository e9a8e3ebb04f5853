"""``/v1/completions``: several prompts, several answers to each, the best of more."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from beichen.inference.api import Completion, Delta, Request, TokenLogprob
from beichen.inference.logprobs import best_of
from beichen.inference.usage import token_usage
from beichen.serve.chat import new_id
from beichen.serve.schemas.chat import LEAST_LOGPROB, Usage
from beichen.serve.schemas.completions import CompletionAnswer, CompletionChoice, CompletionLogprobs
from beichen.serve.service import Service
from beichen.text.tokenizer import Tokenizer


async def whole_completions(
    service: Service, requests: Sequence[Request], *, count: int, best: int, echo: bool, tell: bool
) -> CompletionAnswer:
    """``count`` answers to each prompt, chosen out of ``best`` by the mean log-probability of their tokens, which it may ``tell``."""
    choices: list[CompletionChoice] = []
    tokens = 0
    for request in requests:
        answers = await _answers(service, request, best)
        tokens += sum(len(answer.ids) for answer in answers)
        for answer in answers if best == count else best_of(answers, count):
            choices.append(_choice(service.model.tokenizer, request, answer, index=len(choices), echo=echo, tell=tell))
    return CompletionAnswer(
        id=new_id("cmpl"), created=int(time.time()), model=service.name_of(requests[0]), choices=choices,
        usage=Usage(**token_usage(requests, tokens)),
    )  # fmt: skip


async def completion_events(
    service: Service, requests: Sequence[Request], *, count: int, echo: bool, with_usage: bool
) -> AsyncGenerator[str]:
    """The same as JSON texts, as they come."""
    name, created, tokens = new_id("cmpl"), int(time.time()), 0

    def event(choices: list[CompletionChoice], total: Usage | None = None) -> str:
        answer = CompletionAnswer(id=name, created=created, model=service.name_of(requests[0]), choices=choices, usage=total)
        return answer.model_dump_json(exclude={"usage"} if total is None else None)

    tokenizer = service.model.tokenizer
    for number, request in enumerate(requests):
        for place in range(count) if echo else ():
            text = tokenizer.decode(request.prompt_ids)
            yield event([CompletionChoice(index=number * count + place, text=text, finish_reason=None)])
    asked = [request for request in requests for _ in range(count)]
    offsets = [len(tokenizer.decode(request.prompt_ids)) if echo else 0 for request in asked]
    async for place, delta in service.answer(asked):
        tokens += len(delta.ids)
        told = None if delta.logprobs is None else _logprobs(tokenizer, delta.logprobs, offset=offsets[place])
        offsets[place] += len(delta.text)
        yield event([CompletionChoice(index=place, text=delta.text, logprobs=told, finish_reason=_reason(delta.finish_reason))])
    if with_usage:
        yield event([], Usage(**token_usage(requests, tokens)))


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


def _choice(tokenizer: Tokenizer, request: Request, answer: Completion, *, index: int, echo: bool, tell: bool) -> CompletionChoice:
    prompt = tokenizer.decode(request.prompt_ids) if echo else ""
    told = _logprobs(tokenizer, answer.logprobs, offset=len(prompt)) if tell and answer.logprobs is not None else None
    return CompletionChoice(index=index, text=prompt + answer.text, logprobs=told, finish_reason=_reason(answer.finish_reason))


def _reason(reason: str | None) -> Literal["stop", "length"] | None:
    return None if reason is None else "length" if reason == "length" else "stop"


def _logprobs(tokenizer: Tokenizer, told: Sequence[TokenLogprob], *, offset: int) -> CompletionLogprobs:
    names = [tokenizer.token_bytes(one.id).decode("utf-8", "replace") for one in told]
    tops: list[dict[str, float] | None] = [
        {tokenizer.token_bytes(token).decode("utf-8", "replace"): max(value, LEAST_LOGPROB) for token, value in one.top} for one in told
    ]
    offsets = []
    for name in names:
        offsets.append(offset)
        offset += len(name)
    return CompletionLogprobs(
        tokens=names, token_logprobs=[max(one.logprob, LEAST_LOGPROB) for one in told], top_logprobs=tops, text_offset=offsets
    )
