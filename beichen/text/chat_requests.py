"""Messages and tools of a chat request, as OpenAI's interface has them, to ours.

Comes in: the values of ``messages``, ``tools`` and ``tool_choice`` as JSON gives them. Goes out: our types. Rules: a fault names the path
of what is wrong (``messages[2].content[0]``); a developer speaks as the system, and the system turns at the beginning become one; results
of tools are put into the order of their calls, because chat formats write no ids. Text is taken as it is: names of control tokens in it
stay text, for templates encode contents apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from beichen.errors import DataError, RequestError, nearest
from beichen.text.messages import Message, Role, ToolCall
from beichen.text.tool_calls import parse_arguments
from beichen.util.json_kinds import json_field

ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
MALFORMED = "malformed"  # the key under which a model sees arguments of its own that were no JSON
_MEDIA = {
    "image_url": "an image", "input_audio": "a sound", "file": "a file", "video_url": "a film",
    "image": "an image", "audio_url": "a sound", "video": "a film", "audio": "a sound",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ToolChoice:
    """Whether the answer may call tools, must call one, or must call the one that is named."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


def read_messages(value: object, *, path: str = "messages") -> list[Message]:
    """The dialogue so far."""
    turns = _list(value, path)
    if not turns:
        raise RequestError("there are no messages", param=path, remedy='give at least {"role": "user", "content": "..."}')
    ids: list[list[str]] = [[] for _ in turns]
    messages = [_message(turn, f"{path}[{place}]", ids[place]) for place, turn in enumerate(turns)]
    return _one_system_turn(_results_in_order(messages, turns, ids, path))


def read_tools(value: object, *, path: str = "tools") -> tuple[Mapping[str, Any], ...]:
    """The tools that an answer may call, as templates write them: just as the client did."""
    tools = [] if value is None else _list(value, path)
    for place, tool in enumerate(tools):
        here = f"{path}[{place}]"
        if _object(tool, here).get("type") != "function":
            raise RequestError(
                f"a tool of type {_shown(tool.get('type'))}: only functions can be called",
                param=f"{here}.type",
                code=_code(tool.get("type")),
            )
        function = _object(tool.get("function"), f"{here}.function")
        if not _text(function.get("name"), f"{here}.function.name").strip():
            raise RequestError("the name is empty", param=f"{here}.function.name")
        if function.get("parameters") is not None:
            _object(function["parameters"], f"{here}.function.parameters")
        _unicode(json.dumps(tool, ensure_ascii=False), here)
    names = [tool["function"]["name"] for tool in tools]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise RequestError(f"two tools are called '{name}'", param=f"{path}[{place}].function.name")
    return tuple(tools)


def read_tool_choice(value: object, tools: Sequence[Mapping[str, Any]], *, path: str = "tool_choice") -> ToolChoice:
    """``auto`` (the default with tools), ``none``, ``required``, or one function."""
    if value is None:
        return ToolChoice(mode="auto" if tools else "none")
    if value == "none" or (value == "auto" and not tools):
        return ToolChoice(mode="none")
    if not tools:
        raise RequestError("a tool is asked for, but no tools are given", param=path, remedy="give tools, or leave tool_choice out")
    if value == "auto" or value == "required":
        return ToolChoice(mode=value)
    if isinstance(value, str):
        raise RequestError(f"{value!r}: expected auto, none, required or one function", param=path)
    choice = _object(value, path)
    if choice.get("type") != "function":
        raise RequestError(f"{_shown(choice.get('type'))}: expected 'function'", param=f"{path}.type", code=_code(choice.get("type")))
    name = _text(_object(choice.get("function"), f"{path}.function").get("name"), f"{path}.function.name")
    names = [tool["function"]["name"] for tool in tools]
    if name not in names:
        raise RequestError(f"no tool is called '{name}'{nearest(name, names)}; given: {', '.join(names)}", param=f"{path}.function.name")
    return ToolChoice(mode="named", name=name)


def _message(value: object, path: str, ids: list[str]) -> Message:
    """One turn; the ids of its calls are put into ``ids``."""
    turn = _object(value, path)
    role = turn.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise RequestError(
            f"{_shown(role)}: expected one of {', '.join(ROLES)}{nearest(str(role), ROLES)}", param=f"{path}.role", code=_code(role)
        )
    calls, thinking = turn.get("tool_calls"), turn.get("reasoning_content")
    if role != "assistant" and calls not in (None, []):
        raise RequestError("only the assistant calls tools", param=f"{path}.tool_calls")
    if role != "assistant" and thinking is not None:
        raise RequestError("only the assistant thinks", param=f"{path}.reasoning_content")
    if turn.get("function_call") is not None:
        raise RequestError("function_call is of an earlier interface", param=f"{path}.function_call", remedy="write tool_calls")
    made = [
        _call(call, f"{path}.tool_calls[{place}]", ids)
        for place, call in enumerate([] if calls is None else _list(calls, f"{path}.tool_calls"))
    ]
    content = turn.get("content")
    if role == "assistant":
        refusal = "" if turn.get("refusal") is None else _text(turn["refusal"], f"{path}.refusal")
        content = refusal if content is None else content
    return Message(
        role=ROLES[role],
        content=_content(content, f"{path}.content", refusals=role == "assistant"),
        tool_calls=tuple(made),
        thinking=None if thinking is None else _text(thinking, f"{path}.reasoning_content"),
    )


def _content(value: object, path: str, *, refusals: bool) -> str:
    """Text, or parts of text in order."""
    if isinstance(value, str):
        return _unicode(value, path)
    if not isinstance(value, list):
        raise _of_other_kind(value, "text, or a list of text parts", path)
    return "".join(_part(part, f"{path}[{place}]", refusals=refusals) for place, part in enumerate(value))


def _part(value: object, path: str, *, refusals: bool) -> str:
    part = _object(value, path)
    kind = part.get("type")
    if kind == "refusal" and refusals:
        return _text(part.get("refusal"), f"{path}.refusal")
    if isinstance(kind, str) and kind in _MEDIA:
        raise RequestError(f"{_MEDIA[kind]} (type '{kind}'): this model reads text only", param=path)
    if kind != "text":
        raise RequestError(f"{_shown(kind)}: expected 'text'", param=f"{path}.type", code=_code(kind))
    return _text(part.get("text"), f"{path}.text")


def _call(value: object, path: str, ids: list[str]) -> ToolCall:
    call = _object(value, path)
    if call.get("type", "function") != "function":
        raise RequestError(f"{_shown(call.get('type'))}: only functions can be called", param=f"{path}.type", code=_code(call["type"]))
    ids.append(_text(call.get("id"), f"{path}.id"))
    function = _object(call.get("function"), f"{path}.function")
    name = _text(function.get("name"), f"{path}.function.name")
    arguments = function.get("arguments")
    here = f"{path}.function.arguments"
    if isinstance(arguments, dict):  # some clients send the object itself
        _unicode(json.dumps(arguments, ensure_ascii=False), here)
        return ToolCall(name=name, arguments=arguments)
    text = _text("" if arguments is None else arguments, here)
    try:
        read = parse_arguments(text)
        json.dumps(read, ensure_ascii=False).encode()
    except (DataError, TypeError, ValueError, RecursionError):
        read = {MALFORMED: text}
    return ToolCall(name=name, arguments=read)


def _results_in_order(
    messages: Sequence[Message], turns: Sequence[Mapping[str, Any]], ids: Sequence[Sequence[str]], path: str
) -> list[Message]:
    """Every call is answered by the tool turns right behind it, once; those come in the order of the calls."""
    ordered: list[Message] = []
    for place, message in enumerate(messages):
        if message.role == "tool":
            if not place or not (messages[place - 1].role == "tool" or messages[place - 1].tool_calls):
                raise RequestError("a tool's result must follow the assistant's call", param=f"{path}[{place}].role")
            continue
        ordered.append(message)
        if message.tool_calls:
            ordered += _results(messages, turns, ids[place], place, path)
    return ordered


def _results(messages: Sequence[Message], turns: Sequence[Mapping[str, Any]], calls: Sequence[str], place: int, path: str) -> list[Message]:
    found: dict[str, Message] = {}
    for behind, result in enumerate(takewhile(lambda message: message.role == "tool", messages[place + 1 :]), place + 1):
        here = f"{path}[{behind}].tool_call_id"
        call = _text(turns[behind].get("tool_call_id"), here)
        if call not in calls:
            raise RequestError(f"'{call}' is no call of {path}[{place}]; its calls: {', '.join(calls)}", param=here)
        if call in found:
            raise RequestError(f"the call '{call}' is answered twice", param=here)
        found[call] = result
    for number, call in enumerate(calls):
        here = f"{path}[{place}].tool_calls[{number}].id"
        if call in calls[:number]:
            raise RequestError(f"two calls have the id '{call}'", param=here)
        if call not in found:
            raise RequestError(
                f"no tool message answers the call '{call}'", param=here, remedy="put it right behind, with this tool_call_id"
            )
    return [found[call] for call in calls]


def _one_system_turn(messages: list[Message]) -> list[Message]:
    first = list(takewhile(lambda message: message.role == "system", messages))
    if len(first) < 2:
        return messages
    return [Message(role="system", content="\n\n".join(message.content for message in first)), *messages[len(first) :]]


def _list(value: object, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise _of_other_kind(value, "a list", path)
    return value


def _object(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _of_other_kind(value, "an object", path)
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise _of_other_kind(value, "text", path)
    return _unicode(value, path)


def _of_other_kind(value: object, expected: str, path: str) -> RequestError:
    return RequestError(f"{json_field(value)}; expected {expected}", param=path, code=_code(value) or "invalid_type")


def _code(value: object) -> str | None:
    """OpenAI's code for a fault of a word: of its kind, or none in particular."""
    if isinstance(value, str):
        return None
    return "missing_required_parameter" if value is None else "invalid_type"


def _unicode(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise RequestError(f"half a surrogate pair at character {fault.start}, which is no Unicode text", param=path) from fault
    return text


def _shown(value: object) -> str:
    """A value that should have been one of a few words."""
    return repr(value) if isinstance(value, str) else json_field(value)
