"""What of a dialogue still fits into a prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from beichen.errors import LengthError
from beichen.text.messages import Message


def last_turns(messages: Sequence[Message], prompt: Callable[[list[Message]], list[int]], room: int) -> tuple[list[int], int | None]:
    """The prompt of the longest end of a dialogue that has at most ``room`` ids, and how many messages were left out.

    The system message stays, and whole turns leave from the beginning: a question goes with what answers it. Where not even the
    last question fits, its prompt comes back with ``None``. ``prompt`` may raise LengthError for one that surely has more.
    """
    fixed = [message for message in messages[:1] if message.role == "system"]
    turns = list(messages[len(fixed) :])
    starts = [index for index, message in enumerate(turns) if message.role == "user"]
    if turns and turns[0].role != "user":
        starts.insert(0, 0)

    def fits(start: int) -> bool:
        try:
            return len(prompt([*fixed, *turns[start:]])) <= room
        except LengthError:
            return False

    if not starts:
        return [], None
    # All of it, or the first that fits by few tries: whoever sends thousands of turns may not have each of them tried.
    place = 0 if fits(starts[0]) else bisect_left(starts, True, lo=1, key=fits)
    ids = prompt([*fixed, *turns[starts[min(place, len(starts) - 1)] :]])
    return ids, None if place == len(starts) else starts[place]
