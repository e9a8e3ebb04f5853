"""Messages, tool calls, and what a rendered dialogue is: the types that templates, training and serving share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call that an assistant made: a function's name and its arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn. ``weight`` scales the loss of this turn (``None``: 1 for assistant turns, 0 for all others); ``thinking`` is what
    an assistant thought before its answer, ``None`` where that still stands inside ``content``, or nowhere."""

    role: Role
    content: str
    tool_calls: Sequence[ToolCall] = ()
    weight: float | None = None
    thinking: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """Messages in order, the tools that were offered, and where they came from (``file:line``)."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Two answers to one prompt, of which one is better. An answer is one assistant turn or more, with what its calls returned."""

    prompt: Sequence[Message]
    chosen: Sequence[Message]
    rejected: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class RatedDialogue:
    """A dialogue whose last answer is good or not."""

    messages: Sequence[Message]
    good: bool
    tools: Sequence[Mapping[str, Any]] = ()
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of ids with one meaning. Templates make these; nothing is ever found by searching text again."""

    ids: tuple[int, ...]
    weight: float  # of each of its ids in the loss; 0: context only
    role: Role

    @property
    def trained(self) -> bool:
        return self.weight > 0


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A dialogue as ids; ``loss_mask[i]`` is 1 when ``ids[i]`` is a target that the model must learn to emit."""

    segments: tuple[Segment, ...]

    @property
    def ids(self) -> list[int]:
        return [token for segment in self.segments for token in segment.ids]

    @property
    def loss_mask(self) -> list[int]:
        return [int(segment.trained) for segment in self.segments for _ in segment.ids]

    @property
    def weights(self) -> list[float]:
        """What each id's loss counts as a target; 0 where it is context."""
        return [segment.weight for segment in self.segments for _ in segment.ids]
