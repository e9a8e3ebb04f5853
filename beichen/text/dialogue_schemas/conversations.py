"""ShareGPT's form, and NDL's: ``conversations`` of ``from`` and ``value``; calls are turns of their own (``function_call``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from beichen.text.dialogue_schemas.fields import CHAT_ROLES, call_of, is_json, role_of, system_turn, text_of, tools_of, turns_of, weight_of
from beichen.text.messages import Dialogue, Message


def read_conversations(record: Mapping[str, Any]) -> Dialogue:
    """The dialogue of a record with ``conversations``."""
    turns = turns_of(record["conversations"], "conversations")
    return Dialogue(messages=[*system_turn(record), *map(_message, turns)], tools=tools_of(record.get("tools")))


def _message(turn: Mapping[str, Any]) -> Message:
    value = text_of(turn.get("value"), "value")
    if turn.get("from") == "function_call":
        calls = json.loads(value) if value.lstrip().startswith("[") and is_json(value) else [value]
        return Message(role="assistant", content="", tool_calls=tuple(call_of(call) for call in calls), weight=weight_of(turn, "assistant"))
    role = role_of(turn.get("from"), CHAT_ROLES, ("function_call",))
    return Message(role=role, content=value, weight=weight_of(turn, role))
