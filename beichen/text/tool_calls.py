"""Tool calls inside an answer's text: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>`` to :class:`ToolCall`.

Models and data sets write calls with small faults; each step that mends one is named in the result, so that a
caller can count, refuse or accept it. Nothing is evaluated: Python literals are read by ``ast.literal_eval``.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from beichen.errors import DataError
from beichen.text.messages import ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"

# strict: JSON as the template writes it; strict_name_ws: the name had outer spaces; args_string: arguments were a string that holds
# an object; python_literal: a Python dictionary instead of JSON.
CallKind = Literal["strict", "strict_name_ws", "args_string", "python_literal"]


@dataclass(frozen=True, kw_only=True)
class ParsedAnswer:
    """An answer's text before its first call, its calls, and how each had to be read."""

    content: str
    calls: tuple[ToolCall, ...]
    kinds: tuple[CallKind, ...]


def parse_answer(text: str) -> ParsedAnswer:
    """Splits an answer at its calls; text between or after calls is an error, for no template can say it again."""
    content, *rest = text.split(OPEN)
    calls: list[ToolCall] = []
    kinds: list[CallKind] = []
    for part in rest:
        body, closed, after = part.partition(CLOSE)
        if not closed:
            raise DataError(f"a {OPEN} is never closed: {_short(part)}")
        if after.strip():
            raise DataError(f"text stands after a tool call: {_short(after)}")
        call, kind = parse_call(body)
        calls.append(call)
        kinds.append(kind)
    return ParsedAnswer(content=content, calls=tuple(calls), kinds=tuple(kinds))


def parse_call(text: str, *, name_key: str = "name", arguments_key: str = "arguments") -> tuple[ToolCall, CallKind]:
    """One call, and the kind of fault that had to be mended. Arguments that are ``null`` or an empty text are none."""
    kind: CallKind = "strict"
    value = _json(text)
    if value is None:
        value, kind = _literal(text), "python_literal"
    if not isinstance(value, Mapping):
        raise DataError(f"a tool call is neither a JSON object nor a Python dictionary: {_short(text)}")
    value = value.get("function", value)
    if not isinstance(value, Mapping):
        raise DataError(f"a tool call's function is no object: {_short(text)}")
    name, arguments = value.get(name_key), value.get(arguments_key)
    arguments = {} if arguments is None or arguments == "" else arguments
    if isinstance(arguments, str):
        arguments = _decoded(arguments)
        kind = "args_string" if kind == "strict" else kind
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise DataError(f"a tool call needs a name and an object of arguments: {_short(text)}")
    if name != name.strip() and kind == "strict":
        kind = "strict_name_ws"
    return ToolCall(name=name.strip(), arguments=arguments), kind


def parse_arguments(text: str) -> Mapping[str, Any]:
    """The arguments of a call from their text, JSON or a Python dictionary; an empty text is no arguments."""
    arguments = _decoded(text) if text.strip() else {}
    if isinstance(arguments, str):  # encoded twice
        arguments = _decoded(arguments)
    if not isinstance(arguments, Mapping):
        raise DataError(f"arguments that are no object: {_short(text)}")
    return arguments


def _decoded(text: str) -> Any:
    decoded = _json(text)
    return _literal(text) if decoded is None else decoded


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
