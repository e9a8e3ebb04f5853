"""The dialogue schemas: one reader function and one line of ``SCHEMAS`` each.

A reader takes a record whose keys already say its schema and gives the :class:`Dialogue` that it holds, with control tokens
and tool calls as structure. What does not fit raises :class:`DataError` without a place; ``dialogues.py`` adds it and checks the order
of turns, which is the same for all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from beichen.errors import DataError, nearest
from beichen.text.chat_template import chat_template
from beichen.text.messages import Dialogue, Message, Role, ToolCall
from beichen.text.tool_calls import parse_answer, parse_call

_MARKS = re.compile(r"(<_user>|<_bot>|<_end>)")
_RESPONSE = re.compile(r"<tool_response>\n(.*?)\n</tool_response>\n?", re.DOTALL)

_CHAT_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}


def _read_telechat2(record: Mapping[str, Any]) -> Dialogue:
    """``system`` (ends with a newline, which the template writes itself) and ``dialog``; tools stand inside the system text, calls
    and responses inside the turns: all three become structure, so that training renders what serving will."""
    system, tools = _split_system(_text(record.get("system") or "", "system"))
    messages: list[Message] = [Message(role="system", content=system)] if system else []
    roles: dict[str, Role] = {"user": "user", "bot": "assistant"}
    for turn in _turns(record["dialog"], "dialog"):
        role = _role(turn.get("role"), roles)
        content = _text(turn.get("content"), "content")
        if tools is None:
            messages.append(Message(role=role, content=content))
        elif role == "assistant":
            answer = parse_answer(content)
            messages.append(Message(role=role, content=answer.content, tool_calls=answer.calls))
        elif _RESPONSE.match(content) and messages and messages[-1].tool_calls:  # an answer to no call stays the text it is
            messages += _responses(content)
        else:
            messages.append(Message(role=role, content=content))
    return Dialogue(messages=messages, tools=tools or ())


def _split_system(text: str) -> tuple[str, Sequence[Mapping[str, Any]] | None]:
    """The system text and the tools written into it; None when it has no tools block."""
    before, after = _tool_block()
    if before not in text:
        return text.removesuffix("\n"), None
    system, _, rest = text.partition(before)
    lines, closed, tail = rest.partition(after.rstrip("\n"))
    if not closed or tail.strip():
        raise DataError("the tools block of the system text is not the published one")
    return system, _tools([_object(line, "a tool") for line in lines.split("\n") if line])


@lru_cache(maxsize=1)
def _tool_block() -> tuple[str, str]:
    literal = (chat_template("telechat2").system_with_tools or "").partition("{{content}}")[2]
    before, _, after = literal.partition("{{tools}}")
    return before, after


def _responses(content: str) -> list[Message]:
    if _RESPONSE.sub("", content).strip():
        raise DataError("text stands beside the tool responses of a turn")
    return [Message(role="tool", content=found) for found in _RESPONSE.findall(content)]


def _read_telechat1(record: Mapping[str, Any]) -> Dialogue:
    """``input`` = a bare question, or ``<_user>q<_bot>a<_user>q``; ``output`` = the last answer."""
    messages = _marked(_text(record["input"], "input"))
    if messages[-1].role == "assistant":
        raise DataError("'input' ends with an answer or <_bot>; the last answer belongs in 'output'")
    output = _text(record["output"], "output").removeprefix("<_bot>").removesuffix("<_end>")
    return Dialogue(messages=[*messages, Message(role="assistant", content=output)])


def _read_telechat_one_field(record: Mapping[str, Any]) -> Dialogue:
    """``input`` = ``<_user>q<_bot>a...<_end>``."""
    text = _text(record["input"], "input")
    if not _MARKS.search(text):
        raise DataError("no answer: 'input' alone, without <_bot>; these are prompts, not training data")
    if "<_bot>" not in text:
        raise DataError("no answer: 'input' has no <_bot> turn, and there is no 'output'")
    if not text.endswith("<_end>"):
        raise DataError("'input' does not end with <_end>: the answer may be cut off")
    return Dialogue(messages=_marked(text))


def _marked(text: str) -> list[Message]:
    """Splits a text at its marks. A text that has some must begin with <_user>: otherwise it would be a guess what is a mark."""
    head, *rest = _MARKS.split(text)
    if not rest:
        return [Message(role="user", content=head)]
    if head.strip():
        raise DataError("'input' has control tokens but does not begin with <_user>: which are meant as text cannot be told")
    messages: list[Message] = []
    for mark, part in zip(rest[::2], rest[1::2], strict=True):
        if mark != "<_end>":
            messages.append(Message(role="user" if mark == "<_user>" else "assistant", content=part))
        elif part.strip() or not messages or messages[-1].role != "assistant":
            raise DataError("<_end> stands elsewhere than after an answer")
    return messages


def _read_messages(record: Mapping[str, Any]) -> Dialogue:
    """``messages`` as chat clients write them: ``role``, ``content`` (text or a list of parts), ``tool_calls``; ``tools``."""
    messages = []
    for turn in _turns(record["messages"], "messages"):
        role = _role(turn.get("role"), _CHAT_ROLES)
        content, calls = _parts(turn.get("content"))
        given = [_call(call) for call in turn.get("tool_calls") or ()]
        weight = turn.get("loss_weight", turn.get("weight"))
        if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
            raise DataError(f"loss weight {weight!r}: an answer is trained (1) or not (0)")
        weight = None if weight is None or role != "assistant" else float(weight)
        messages.append(Message(role=role, content=content, tool_calls=(*calls, *given), weight=weight))
    return Dialogue(messages=messages, tools=_tools(record.get("tools")))


def _read_conversations(record: Mapping[str, Any]) -> Dialogue:
    """``conversations`` of ``from``, ``value``; calls are turns of their own (``function_call``), ``tools`` often JSON in a string."""
    messages: list[Message] = [Message(role="system", content=_text(record["system"], "system"))] if record.get("system") else []
    for turn in _turns(record["conversations"], "conversations"):
        value = _text(turn.get("value"), "value")
        if turn.get("from") != "function_call":
            messages.append(Message(role=_role(turn.get("from"), _CHAT_ROLES, ("function_call",)), content=value))
            continue
        calls = json.loads(value) if value.lstrip().startswith("[") and _is_json(value) else [value]
        messages.append(Message(role="assistant", content="", tool_calls=tuple(_call(call) for call in calls)))
    return Dialogue(messages=messages, tools=_tools(record.get("tools")))


def _read_alpaca(record: Mapping[str, Any]) -> Dialogue:
    """``instruction``, ``input`` (may be empty), ``output``; optional ``system`` and ``history`` of pairs."""
    messages: list[Message] = [Message(role="system", content=_text(record["system"], "system"))] if record.get("system") else []
    for pair in record.get("history") or ():
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise DataError("'history' must be a list of [question, answer] pairs")
        messages += [Message(role="user", content=_text(pair[0], "history")), Message(role="assistant", content=_text(pair[1], "history"))]
    parts = [_text(record["instruction"], "instruction"), _text(record.get("input") or "", "input")]
    question = "\n".join(part for part in parts if part)
    return Dialogue(messages=[*messages, Message(role="user", content=question), _answer(record["output"])])


def _answer(value: object) -> Message:
    return Message(role="assistant", content=_text(value, "output"))


def _turns(value: object, key: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f"'{key}' is a {type(value).__name__}, expected a list of turns")
    for index, turn in enumerate(value):
        if not isinstance(turn, Mapping):
            raise DataError(f"turn {index} of '{key}' is a {type(turn).__name__}, expected an object")
    return list(value)


def _role(value: object, roles: Mapping[str, Role], more: Sequence[str] = ()) -> Role:
    if value not in roles:
        known = (*roles, *more)
        raise DataError(f"unknown role {value!r}{nearest(str(value), known)}; known: {', '.join(known)}")
    return roles[str(value)]


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"'{key}' is {'missing' if value is None else f'a {type(value).__name__}'}, expected text")
    return value


def _parts(content: object) -> tuple[str, tuple[ToolCall, ...]]:
    """Text and calls of a content that may be a list of ``{type, value}``; a kind of part that cannot be kept is refused."""
    if content is None:
        return "", ()
    if isinstance(content, str):
        return content, ()
    texts: list[str] = []
    calls: list[ToolCall] = []
    for part in _turns(content, "content"):
        kind = part.get("type")
        if kind == "text":
            texts.append(_text(part.get("value", part.get("text")), "content"))
        elif kind == "tool_call":
            calls.append(_call(part.get("value")))
        else:
            raise DataError(f"a content part of type {kind!r} has no place in a text dialogue; known: text, tool_call")
    return "".join(texts), tuple(calls)


def _call(value: object) -> ToolCall:
    return parse_call(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[0]


def _tools(value: object) -> tuple[Mapping[str, Any], ...]:
    """Tools as templates write them: each ``{"type": "function", "function": {...}}``."""
    if isinstance(value, str):
        if not value.strip():
            return ()
        if not _is_json(value):
            raise DataError("'tools' is text, but not JSON")
        value = json.loads(value)
    if value is None:
        return ()
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in _turns(value, "tools"))


def _object(text: str, what: str) -> Mapping[str, Any]:
    value = json.loads(text) if _is_json(text) else None
    if not isinstance(value, Mapping):
        raise DataError(f"{what} is not a JSON object: {text[:80]!r}")
    return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Schema:
    """A schema: known by the keys it has and lacks, read by one function."""

    name: str
    read: Callable[[Mapping[str, Any]], Dialogue]
    keys: tuple[str, ...]
    not_keys: tuple[str, ...]
    description: str


SCHEMAS: dict[str, Schema] = {
    schema.name: schema
    for schema in (
        Schema("telechat2", _read_telechat2, ("dialog",), (), "system, dialog of role user/bot and content"),
        Schema("messages", _read_messages, ("messages",), (), "messages of role and content"),
        Schema("conversations", _read_conversations, ("conversations",), (), "conversations of from and value"),
        Schema("alpaca", _read_alpaca, ("instruction", "output"), (), "instruction, input, output"),
        Schema("telechat1", _read_telechat1, ("input", "output"), ("instruction",), "input, output"),
        Schema("telechat_one_field", _read_telechat_one_field, ("input",), ("instruction", "output"), "input with <_user>, <_bot>, <_end>"),
    )
}
