"""What of a dialogue still fits into a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from beichen.text.messages import Message


def last_turns(messages: Sequence[Message], prompt: Callable[[list[Message]], list[int]], room: int) -> tuple[list[int], int | None]:
    """The prompt of the longest end of a dialogue that has at most ``room`` ids, and how many messages were left out.

    The system message stays, and whole turns leave from the beginning: a question goes with what answers it. Where not even the
    last question fits, its prompt comes back with ``None``.
    """
    fixed = [message for message in messages[:1] if message.role == "system"]
    turns = list(messages[len(fixed) :])
    starts = [index for index, message in enumerate(turns) if message.role == "user"]
    if turns and turns[0].role != "user":
        starts.insert(0, 0)
    ids: list[int] = []
    for start in starts:
        ids = prompt([*fixed, *turns[start:]])
        if len(ids) <= room:
            return ids, start
    return ids, None
