"""``messages``, ``tools`` and ``tool_choice``, as the OpenAPI page tells them.

They are read by :mod:`beichen.text.chat_requests`, which names the path of a fault; what stands here is the same in the words of JSON
Schema. What it has no words for: results must answer calls, and names must be given once.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import WithJsonSchema

_STRING, _NULL, _FUNCTION = {"type": "string"}, {"type": "null"}, {"const": "function"}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _or_null(*ways: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*ways, _NULL]}


_TEXT_PART = _object(["type", "text"], type={"const": "text"}, text=_STRING)
_REFUSAL_PART = _object(["type", "refusal"], type={"const": "refusal"}, refusal=_STRING)
_CONTENT = {"anyOf": [_STRING, {"type": "array", "items": _TEXT_PART}]}
_ANSWER = _or_null(_STRING, {"type": "array", "items": {"anyOf": [_TEXT_PART, _REFUSAL_PART]}})
_CALLED = _object(["name"], name=_STRING, arguments=_or_null(_STRING, {"type": "object"}))
_CALLS = {"type": "array", "items": _object(["id", "function"], id=_STRING, type=_FUNCTION, function=_CALLED)}
_NO_CALLS = _or_null({"type": "array", "maxItems": 0})


def _turn(role: str, *required: str, **more: Any) -> dict[str, Any]:
    usual = {"content": _CONTENT, "tool_calls": _NO_CALLS, "reasoning_content": _NULL, "function_call": _NULL}
    return _object(["role", *required], role={"const": role}, **{**usual, **more})


_TURNS = [
    *(_turn(role, "content") for role in ("system", "developer", "user")),
    _turn("assistant", content=_ANSWER, tool_calls=_or_null(_CALLS), reasoning_content=_or_null(_STRING), refusal=_or_null(_STRING)),
    _turn("tool", "content", "tool_call_id", tool_call_id=_STRING),
]
_OFFERED = _object(["name"], name={"type": "string", "pattern": r"\S"}, parameters=_or_null({"type": "object"}))
_NAMED = _object(["type", "function"], type=_FUNCTION, function=_object(["name"], name=_STRING))

MESSAGES = {"type": "array", "minItems": 1, "items": {"anyOf": _TURNS}}
TOOLS = {"type": "array", "items": _object(["type", "function"], type=_FUNCTION, function=_OFFERED)}

Messages = Annotated[Any, WithJsonSchema(MESSAGES)]
MaybeMessages = Annotated[Any, WithJsonSchema(_or_null(MESSAGES))]
MaybeTools = Annotated[Any, WithJsonSchema(_or_null(TOOLS))]
MaybeChoice = Annotated[Any, WithJsonSchema(_or_null({"enum": ["auto", "none", "required"]}, _NAMED))]

CHOICE_NEEDS_TOOLS: dict[str, Any] = {  # a rule of a whole request
    "anyOf": [
        {"properties": {"tool_choice": {"enum": [None, "auto", "none"]}}},
        {"required": ["tools"], "properties": {"tools": {"type": "array", "minItems": 1}}},
    ]
}
