"""TeleChat2's older tutorial: ``conversation`` of user, bot and tool; ``tools`` and a bot's ``tool_calls`` are JSON in strings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from beichen.errors import DataError
from beichen.text.dialogue_schemas.fields import call_of, is_json, role_of, system_turn, text_of, tools_of, turns_of
from beichen.text.messages import Dialogue, Message, Role

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "bot": "assistant", "tool": "tool"}


def read_tutorial(record: Mapping[str, Any]) -> Dialogue:
    """The dialogue of a record with ``conversation``."""
    messages = system_turn(record)
    for turn in turns_of(record["conversation"], "conversation"):
        role = role_of(turn.get("role"), _ROLES)
        calls = turn.get("tool_calls") or ()
        if isinstance(calls, str):
            if not is_json(calls):
                raise DataError("'tool_calls' is text, but not JSON")
            calls = json.loads(calls)
        found = tuple(call_of(call) for call in turns_of(calls, "tool_calls"))
        messages.append(Message(role=role, content=text_of(turn.get("content") or "", "content"), tool_calls=found))
    return Dialogue(messages=messages, tools=tools_of(record.get("tools")))
