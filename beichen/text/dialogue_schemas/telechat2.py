"""TeleChat2: ``system`` (ends with a newline, which the template writes itself) and ``dialog``.

Tools stand inside the system text, calls and responses inside the turns: all three become structure, so that training renders what
serving will.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from beichen.errors import DataError
from beichen.text.chat_template import chat_template
from beichen.text.dialogue_schemas.fields import object_of, role_of, text_of, tools_of, turns_of
from beichen.text.messages import Dialogue, Message, Role
from beichen.text.tool_calls import parse_answer

_RESPONSE = re.compile(r"<tool_response>\n(.*?)\n</tool_response>\n?", re.DOTALL)
_ROLES: dict[str, Role] = {"user": "user", "bot": "assistant"}


def read_telechat2(record: Mapping[str, Any]) -> Dialogue:
    """The dialogue of a record with ``dialog``."""
    system, tools = _split_system(text_of(record.get("system") or "", "system"))
    messages: list[Message] = [Message(role="system", content=system)] if system else []
    for turn in turns_of(record["dialog"], "dialog"):
        role = role_of(turn.get("role"), _ROLES)
        content = text_of(turn.get("content"), "content")
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
    return system, tools_of([object_of(line, "a tool") for line in lines.split("\n") if line])


@lru_cache(maxsize=1)
def _tool_block() -> tuple[str, str]:
    literal = (chat_template("telechat2").system_with_tools or "").partition("{{content}}")[2]
    before, _, after = literal.partition("{{tools}}")
    return before, after


def _responses(content: str) -> list[Message]:
    if _RESPONSE.sub("", content).strip():
        raise DataError("text stands beside the tool responses of a turn")
    return [Message(role="tool", content=found) for found in _RESPONSE.findall(content)]
