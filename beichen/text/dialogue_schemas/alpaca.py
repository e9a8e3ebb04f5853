"""Alpaca's form: ``instruction``, ``input`` (may be empty), ``output``; optional ``system`` and ``history`` of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beichen.errors import DataError
from beichen.text.dialogue_schemas.fields import system_turn, text_of
from beichen.text.messages import Dialogue, Message


def read_alpaca(record: Mapping[str, Any]) -> Dialogue:
    """The dialogue of a record with ``instruction`` and ``output``."""
    messages = system_turn(record)
    for pair in record.get("history") or ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DataError("'history' must be a list of [question, answer] pairs")
        messages += [
            Message(role="user", content=text_of(pair[0], "history")),
            Message(role="assistant", content=text_of(pair[1], "history")),
        ]
    parts = [text_of(record["instruction"], "instruction"), text_of(record.get("input") or "", "input")]
    question = Message(role="user", content="\n".join(part for part in parts if part))
    return Dialogue(messages=[*messages, question, Message(role="assistant", content=text_of(record["output"], "output"))])
