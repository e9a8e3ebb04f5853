"""TeleChat 1 and 52B: turns in one string, told apart by ``<_user>``, ``<_bot>`` and ``<_end>``.

Two forms: ``input`` with the last answer in ``output``, and MindFormers' single ``input`` that holds everything. Where a text has
marks, it must begin with one: otherwise it would be a guess which of them are marks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from beichen.errors import DataError
from beichen.text.dialogue_schemas.fields import text_of
from beichen.text.messages import Dialogue, Message

_MARKS = re.compile(r"(<_user>|<_bot>|<_end>)")


def read_telechat1(record: Mapping[str, Any]) -> Dialogue:
    """``input`` = a bare question, or ``<_user>q<_bot>a<_user>q``; ``output`` = the last answer."""
    messages = _marked(text_of(record["input"], "input"))
    if messages[-1].role == "assistant":
        raise DataError("'input' ends with an answer or <_bot>; the last answer belongs in 'output'")
    output = text_of(record["output"], "output").removeprefix("<_bot>").removesuffix("<_end>")
    return Dialogue(messages=[*messages, Message(role="assistant", content=output)])


def read_one_field(record: Mapping[str, Any]) -> Dialogue:
    """``input`` = ``<_user>q<_bot>a...<_end>``."""
    text = text_of(record["input"], "input")
    if not _MARKS.search(text):
        raise DataError("no answer: 'input' alone, without <_bot>; these are prompts, not training data")
    if "<_bot>" not in text:
        raise DataError("no answer: 'input' has no <_bot> turn, and there is no 'output'")
    if not text.endswith("<_end>"):
        raise DataError("'input' does not end with <_end>: the answer may be cut off")
    return Dialogue(messages=_marked(text))


def _marked(text: str) -> list[Message]:
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
