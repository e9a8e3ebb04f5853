"""The one protocol between a model that answers and whoever asks: the server, evaluation, retrieval, the command line.

A ``Request`` goes in as ids, so that templates and text safety stay with the tokenizer. ``generate`` answers many at once,
``stream`` answers one piece by piece. Our generator, a later engine and foreign engines stand behind the same two methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from beichen.errors import SettingsError
from beichen.util.progress import SILENT, Reporter

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How the next id is chosen. ``temperature`` 0 takes the likeliest; a ``None`` is a rule that is off."""

    temperature: float = 0.0
    top_k: int | None = None  # only the k likeliest
    top_p: float | None = None  # only the smallest likeliest set that holds this mass
    min_p: float | None = None  # only what is at least this share as likely as the likeliest
    repetition_penalty: float = 1.0  # above 1, ids that already stand in the prompt or answer become less likely
    seed: int | None = None  # the same seed and prompt give the same answer, whatever runs beside it; None: a fresh one

    def __post_init__(self) -> None:
        for name, value, good, expected in (
            ("temperature", self.temperature, self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "1 or more, or nothing"),
            ("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1, or nothing"),
            ("min_p", self.min_p, self.min_p is None or 0 <= self.min_p <= 1, "from 0 to 1, or nothing"),
            ("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "above 0"),
        ):
            if not good:
                raise SettingsError(f"{name}={value}: expected {expected}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt to be continued. An answer ends at a stop id or stop string (neither is part of it) or at ``max_new_tokens``."""

    prompt_ids: Sequence[int]
    max_new_tokens: int
    stop_ids: Sequence[int] = ()
    stop_strings: Sequence[str] = ()
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def __post_init__(self) -> None:
        if not len(self.prompt_ids):
            raise SettingsError("the prompt is empty: there is nothing to continue", remedy="give at least one token")
        if self.max_new_tokens < 1:
            raise SettingsError(f"max_new_tokens={self.max_new_tokens}: expected 1 or more")
        if "" in self.stop_strings:
            raise SettingsError("a stop string is empty: every answer would end before it begins")


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a stream says next: whole characters that will not be taken back. The last one alone has a ``finish_reason``."""

    text: str
    ids: tuple[int, ...] = ()  # read since the last delta; their text may still be held back
    finish_reason: FinishReason | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A finished answer."""

    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason

    def __str__(self) -> str:
        return self.text


class Generator(Protocol):
    """Anything that answers requests."""

    def generate(self, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
        """The answers, in the order of the requests."""

    def stream(self, request: Request) -> Iterator[Delta]:
        """One answer as it grows; closing the iterator ends the work."""


def join(deltas: Iterable[Delta]) -> Completion:
    """The answer that a finished stream has given."""
    text, ids = "", tuple[int, ...]()
    reason: FinishReason | None = None
    for delta in deltas:
        text, ids, reason = text + delta.text, (*ids, *delta.ids), delta.finish_reason or reason
    if reason is None:
        raise ValueError("the stream was cut before its end: its last delta has no finish_reason")
    return Completion(text=text, ids=ids, finish_reason=reason)
