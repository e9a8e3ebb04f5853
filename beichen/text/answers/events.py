"""What an answer says, event by event.

Every event carries ``source``, the piece of the model's own text that it stands for: the sources of all events joined are the answer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """Prose for the reader."""

    text: str
    source: str


@dataclass(frozen=True)
class Thought:
    """What the model thinks before its answer."""

    text: str
    source: str


@dataclass(frozen=True)
class CallBegin:
    """A tool call begins: its place among the calls of this answer, from 0, and the name of its function."""

    index: int
    name: str
    source: str


@dataclass(frozen=True)
class CallArguments:
    """More of a call's arguments, which are JSON if the model wrote JSON."""

    index: int
    text: str
    source: str


@dataclass(frozen=True)
class CallEnd:
    """A call's arguments are whole."""

    index: int
    source: str = ""


@dataclass(frozen=True)
class Unsaid:
    """Tags, and the white space between the parts of an answer: shown nowhere."""

    source: str


Event = Said | Thought | CallBegin | CallArguments | CallEnd | Unsaid
