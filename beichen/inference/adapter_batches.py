"""Sequences of several adapters in one pass: side by side by adapter, so that each adapter has one stretch of the tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from beichen.errors import SettingsError, nearest
from beichen.inference.api import Request
from beichen.inference.scheduler import Work
from beichen.inference.sequence import Sequence as Running
from beichen.nn.spans import Span, Updates

Adapters = Mapping[str, Updates]  # by the name that requests say


def by_adapter(work: Work) -> Work:
    """The same work, those of one adapter beside each other."""
    return Work(sorted(work.decodes, key=_name), sorted(work.prompts, key=lambda prompt: _name(prompt[0])))


def spans_of(adapters: Adapters, requests: Iterable[Request], counts: Iterable[int]) -> tuple[Span, ...]:
    """counts: how many tokens each request has in the pass, one behind the other; those of one adapter best stand together."""
    if not adapters:
        return ()
    spans: list[Span] = []
    end = 0
    for request, count in zip(requests, counts, strict=True):
        begin, end = end, end + count
        if request.adapter is None:
            continue
        updates = adapters[request.adapter]
        if spans and spans[-1].end == begin and spans[-1].updates is updates:
            begin = spans.pop().begin
        spans.append(Span(begin, end, updates))
    return tuple(spans)


def _name(sequence: Running) -> str:
    return sequence.request.adapter or ""


def check_adapter(adapters: Adapters, name: str | None) -> None:
    """Raises SettingsError for an adapter that is not here."""
    if name is not None and name not in adapters:
        raise SettingsError(
            f"there is no adapter '{name}'{nearest(name, adapters)}",
            remedy=f"one of: {', '.join(sorted(adapters))}" if adapters else "this model was loaded without adapters",
        )
