"""Fields of records, checked: what every reader of a schema needs. A fault names the field, what stood there and what was expected."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from beichen.errors import DataError, nearest
from beichen.text.messages import Message, Role, ToolCall
from beichen.text.tool_calls import parse_call
from beichen.util.json_kinds import json_field

CHAT_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}


def turns_of(value: object, key: str) -> list[Mapping[str, Any]]:
    """A list of objects."""
    if not isinstance(value, list | tuple):
        raise DataError(f"'{key}' is {json_field(value)}, expected a list of turns")
    for index, turn in enumerate(value):
        if not isinstance(turn, dict):
            raise DataError(f"turn {index} of '{key}' is {json_field(turn)}, expected an object")
    return list(value)


def role_of(value: object, roles: Mapping[str, Role], more: Sequence[str] = ()) -> Role:
    """One of the names of roles that a schema has; ``more``: other names that its turns may have."""
    if not isinstance(value, str) or value not in roles:
        known = (*roles, *more)
        raise DataError(f"unknown role {value!r}{nearest(str(value), known)}; known: {', '.join(known)}")
    return roles[value]


def text_of(value: object, key: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise DataError(f"'{key}' is {json_field(value)}, expected text")
    return value


def system_turn(record: Mapping[str, Any]) -> list[Message]:
    """The ``system`` field beside the turns, if it says anything."""
    return [Message(role="system", content=text_of(record["system"], "system"))] if record.get("system") else []


def weight_of(turn: Mapping[str, Any], role: Role) -> float | None:
    """The loss weight that a record gives to a turn; those of other turns than answers are never trained and say nothing."""
    weight = turn.get("loss_weight", turn.get("weight"))
    if weight is None or role != "assistant":
        return None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise DataError(f"loss weight {weight!r}: expected a number, 0 or above")
    return float(weight)


def call_of(value: object) -> ToolCall:
    """A tool call, as an object or as text that holds one."""
    return parse_call(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[0]


def tools_of(value: object) -> tuple[Mapping[str, Any], ...]:
    """Tools as templates write them, each ``{"type": "function", "function": {...}}``; often the list is JSON in a string."""
    if isinstance(value, str):
        if not value.strip():
            return ()
        if not is_json(value):
            raise DataError("'tools' is text, but not JSON")
        value = json.loads(value)
    if value is None:
        return ()
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in turns_of(value, "tools"))


def object_of(text: str, what: str) -> Mapping[str, Any]:
    """A JSON object in a string."""
    value = json.loads(text) if is_json(text) else None
    if not isinstance(value, Mapping):
        raise DataError(f"{what} is not a JSON object: {text[:80]!r}")
    return value


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
