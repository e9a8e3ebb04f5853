"""``MessageParts``: the events of one answer, put together into what a message holds.

Comes in: :mod:`~beichen.text.answers.events`, in their order. Goes out: content, thought and calls, for whoever writes them down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeVar

from beichen.text.answers.events import CallArguments, CallBegin, Event, Said, Thought

Reason = TypeVar("Reason", bound=str)


@dataclass
class CallParts:
    """One call: its function, and its arguments as the model wrote them."""

    name: str
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class MessageParts:
    """``add`` every event; the rest may be read at any time."""

    def __init__(self) -> None:
        self.calls: list[CallParts] = []
        self._content: list[str] = []
        self._thought: list[str] = []

    @property
    def content(self) -> str:
        return "".join(self._content)

    @property
    def thought(self) -> str:
        return "".join(self._thought)

    def add(self, event: Event) -> None:
        if isinstance(event, Said):
            self._content.append(event.text)
        elif isinstance(event, Thought):
            self._thought.append(event.text)
        elif isinstance(event, CallBegin):
            self.calls.append(CallParts(event.name))
        elif isinstance(event, CallArguments):
            self.calls[-1].pieces.append(event.text)


def end_reason(reason: Reason, *, called: bool) -> Reason | Literal["tool_calls"]:
    """Why an answer ended, as clients are told it: one that called and stopped by itself waits for its calls."""
    return "tool_calls" if called and reason == "stop" else reason
