"""``messages`` as chat clients write them, tools and tool calls included; the form that ``beichen data convert`` writes.

Content is text or a list of parts (``{"type": "text", ...}``); thoughts stand in ``reasoning_content``, or in parts of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beichen.errors import DataError
from beichen.text.dialogue_schemas.fields import CHAT_ROLES, call_of, role_of, text_of, tools_of, turns_of, weight_of
from beichen.text.messages import Dialogue, Message, ToolCall

_MEDIA = ("image", "image_url", "video", "video_url", "audio", "audio_url", "input_audio", "file")


def read_messages(record: Mapping[str, Any]) -> Dialogue:
    """The dialogue of a record with ``messages``."""
    return Dialogue(messages=messages_of(record["messages"], "messages"), tools=tools_of(record.get("tools")))


def messages_of(value: object, key: str) -> list[Message]:
    """A list of messages."""
    return [_message(turn) for turn in turns_of(value, key)]


def _message(turn: Mapping[str, Any]) -> Message:
    role = role_of(turn.get("role"), CHAT_ROLES)
    content, thinking = turn.get("content"), turn.get("reasoning_content")
    calls: list[ToolCall] = []
    if content is not None and not isinstance(content, str):
        content, calls, thought = _parts(content)
        thinking = thought or thinking
    calls += [call_of(call) for call in turn.get("tool_calls") or ()]
    if turn.get("function_call"):
        calls.append(call_of(turn["function_call"]))
    if thinking is not None and role != "assistant":
        raise DataError(f"a thought in a turn of role '{role}': only the assistant thinks")
    return Message(
        role=role, content=content or "", tool_calls=tuple(calls), weight=weight_of(turn, role),
        thinking=None if thinking is None else text_of(thinking, "reasoning_content"),
    )  # fmt: skip


def _parts(content: object) -> tuple[str, list[ToolCall], str | None]:
    """Text, calls and thought of a content in parts; a kind of part that cannot be kept is refused."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for part in turns_of(content, "content"):
        kind, value = part.get("type"), part.get("value", part.get("text"))
        if kind == "text":
            texts.append(text_of(value, "content"))
        elif kind in ("reasoning", "thinking") and not texts and not calls:
            thoughts.append(text_of(part.get("thinking", value), "content"))
        elif kind == "tool_call":
            calls.append(call_of(value))
        elif kind in _MEDIA:
            raise DataError(f"multimodal: a content part of type '{kind}'; only text can be trained on")
        else:
            where = " behind the answer" if kind in ("reasoning", "thinking") else ""
            raise DataError(f"a content part of type {kind!r}{where} has no place in a text dialogue; known: text, reasoning, tool_call")
    return "".join(texts), calls, "".join(thoughts) or None
