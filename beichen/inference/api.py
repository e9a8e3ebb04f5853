"""The one protocol between a model that answers and whoever asks: the server, evaluation, retrieval, the command line.

A ``Request`` goes in as ids, so that templates and text safety stay with the tokenizer. ``generate`` answers many at once,
``each`` as many as come, ``stream`` one piece by piece. Our engine and foreign ones stand behind the same methods.
"""

from __future__ import annotations

import collections.abc
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from beichen.errors import BeichenError, SettingsError
from beichen.util.progress import SILENT, Reporter

FinishReason = Literal["stop", "length", "cancelled"]  # ended by itself, at its longest, or because nobody wanted the rest
MAX_LOGPROBS = 100  # alternatives a token, at most


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How the next id is chosen. ``temperature`` 0 takes the likeliest; a ``None`` is a rule that is off.

    On the model's logits act, in this order: the repetition penalty; bias, presence and frequency penalty, which add up; temperature;
    top-k; top-p; min-p. What may not come at all (a minimum length, a constraint) is taken out before the filters.
    """

    temperature: float = 0.0
    top_k: int | None = None  # only the k likeliest
    top_p: float | None = None  # only the smallest likeliest set that holds this mass
    min_p: float | None = None  # only what is at least this share as likely as the likeliest
    repetition_penalty: float = 1.0  # above 1, ids that already stand in the prompt or answer become less likely
    presence_penalty: float = 0.0  # taken from the logit of every id that stands in the answer
    frequency_penalty: float = 0.0  # the same, as often as it stands there
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to the logits of these ids; -100 bans, 100 forces
    seed: int | None = None  # the same seed and prompt give the same answer, whatever runs beside it; None: a fresh one

    def __post_init__(self) -> None:
        for name, value, good, expected in (
            ("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more"),
            ("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more, or nothing"),
            ("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1, or nothing"),
            ("min_p", self.min_p, self.min_p is None or 0 <= self.min_p <= 1, "from 0 to 1, or nothing"),
            ("repetition_penalty", self.repetition_penalty, 0.01 <= self.repetition_penalty <= 100, "from 0.01 to 100"),
            ("presence_penalty", self.presence_penalty, -2 <= self.presence_penalty <= 2, "from -2 to 2"),
            ("frequency_penalty", self.frequency_penalty, -2 <= self.frequency_penalty <= 2, "from -2 to 2"),
        ):
            if not good:
                raise SettingsError(f"{name}={value}: expected {expected}", field=name)
        for token, bias in self.logit_bias.items():
            if not (isinstance(token, int) and token >= 0 and -100 <= bias <= 100):
                words = f"logit_bias={{{token!r}: {bias}}}: expected ids (0 or more) with numbers from -100 to 100"
                raise SettingsError(words, field="logit_bias")


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What the text of an answer must be, from its first character to its last; exactly one of these is given.

    An answer that ends by itself keeps it; one that is cut at ``max_new_tokens`` is a beginning of such a text.
    """

    json_schema: Mapping[str, Any] | bool | None = None  # JSON that this schema accepts; properties come in the order of the schema
    json_object: bool = False  # any JSON object
    regex: str | None = None  # the whole text; no look-around, no back-references
    choices: Sequence[str] | None = None  # one of these texts
    lark: str | None = None  # a context-free grammar, in the form of Lark that llguidance reads

    def __post_init__(self) -> None:
        ways = {"json_schema": self.json_schema is not None, "json_object": self.json_object, "regex": self.regex is not None,
                "choices": self.choices is not None, "lark": self.lark is not None}  # fmt: skip
        given = [name for name, is_given in ways.items() if is_given]
        if len(given) != 1:
            raise SettingsError(f"constraint={', '.join(given) or 'nothing'}: expected exactly one of {', '.join(ways)}")
        if isinstance(self.choices, str) or (self.choices is not None and (not self.choices or "" in self.choices)):
            raise SettingsError(f"choices={self.choices!r}: expected a list of texts, none of them empty", field="choices")

    @property
    def name(self) -> str:
        """Which one it is, for messages."""
        return next(name for name in ("json_schema", "regex", "choices", "lark", "json_object") if getattr(self, name) not in (None, False)
                    or (name == "json_schema" and self.json_schema is False))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt to be continued. An answer ends at a stop id or stop string (neither is part of it) or at ``max_new_tokens``."""

    prompt_ids: Sequence[int]
    max_new_tokens: int
    min_new_tokens: int = 0  # no stop id and no stop string ends it before; a constraint that is fulfilled and allows no more does
    stop_ids: Sequence[int] = ()  # without any, only a stop string, the length or a constraint ends an answer
    stop_strings: Sequence[str] = ()
    shown_tokens: Sequence[str] = ()  # control tokens whose names are part of the text: the tags of thoughts and tool calls
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    constraint: Constraint | None = None
    logprobs: int | None = None  # tell each token's log-probability, and so many likeliest alternatives; None: tell nothing
    prompt_logprobs: int | None = None  # the same for the prompt
    adapter: str | None = None  # the name of one of the generator's; None: the base as it is
    priority: int = 0  # larger ones run first
    owner: str = ""  # whose request it is: owners of equal priority take turns

    def __post_init__(self) -> None:
        if not len(self.prompt_ids):
            raise SettingsError("the prompt is empty: there is nothing to continue", remedy="give at least one token", field="prompt_ids")
        if self.max_new_tokens < 1:
            raise SettingsError(f"max_new_tokens={self.max_new_tokens}: expected 1 or more", field="max_new_tokens")
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            words = f"min_new_tokens={self.min_new_tokens}: expected from 0 to max_new_tokens, {self.max_new_tokens}"
            raise SettingsError(words, field="min_new_tokens")
        if "" in self.stop_strings:
            raise SettingsError("a stop string is empty: every answer would end before it begins", field="stop_strings")
        for name, count in (("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            if count is not None and not 0 <= count <= MAX_LOGPROBS:
                raise SettingsError(f"{name}={count}: expected from 0 to {MAX_LOGPROBS}, or nothing", field=name)


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """How likely the model itself held a token: natural logarithms in float32 of the softmax of its logits, before penalties, bias,
    temperature and filters. ``top``: the likeliest ids with theirs, likeliest first; the token itself may be among them or not."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a stream says next: whole characters that will not be taken back. The last one alone has a ``finish_reason``."""

    text: str
    ids: tuple[int, ...] = ()  # read since the last delta; their text may still be held back
    logprobs: tuple[TokenLogprob, ...] | None = None  # one for each of the ids, where the request asks
    finish_reason: FinishReason | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A finished answer."""

    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None  # one for each of the ids, where the request asks
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None  # one for each id of the prompt; of the first nothing is known

    def __str__(self) -> str:
        return self.text


class Generator(Protocol):
    """Anything that answers requests."""

    def check(self, request: Request) -> None:
        """Raises SettingsError for what could never be answered, before anything is computed."""

    def generate(self, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
        """The answers, in the order of the requests."""

    def each(self, requests: Iterable[Request]) -> collections.abc.Generator[tuple[int, Completion | BeichenError]]:
        """The answers as they end, each with its request's place; more requests are taken as there is room for them, so that any number
        of them keeps the generator full. The fault of one request is told in place of its answer. Closing the iterator ends the work."""

    def stream(self, request: Request) -> Iterator[Delta]:
        """One answer as it grows; closing the iterator ends the work."""


def in_order(generator: Generator, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
    """What ``generate`` gives, by ``each``: all requests are checked before the first is computed, and the first fault ends the work."""
    for request in requests:
        generator.check(request)
    answers: dict[int, Completion] = {}
    with reporter.track("answering", total=len(requests), unit="answers") as task, closing(generator.each(requests)) as ended:
        for place, answer in ended:
            if isinstance(answer, BeichenError):
                raise answer
            answers[place] = answer
            task.advance()
    return [answers[place] for place in range(len(requests))]


def join(deltas: Iterable[Delta]) -> Completion:
    """The answer that a finished stream has given. Raises ValueError for one that has not finished."""
    text, ids = "", tuple[int, ...]()
    logprobs: tuple[TokenLogprob, ...] | None = None
    reason: FinishReason | None = None
    for delta in deltas:
        text, ids, reason = text + delta.text, (*ids, *delta.ids), delta.finish_reason or reason
        if delta.logprobs is not None:
            logprobs = (*(logprobs or ()), *delta.logprobs)
    if reason is None:
        raise ValueError("the stream was cut before its end: its last delta has no finish_reason")
    return Completion(text=text, ids=ids, finish_reason=reason, logprobs=logprobs)
