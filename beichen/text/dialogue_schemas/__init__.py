"""The dialogue schemas: one small file a schema, one line each in ``SCHEMAS``.

A reader takes a record whose keys already say its schema and gives the :class:`~beichen.text.messages.Dialogue` that it holds, with
control tokens and tool calls as structure. What does not fit raises :class:`~beichen.errors.DataError` without a place;
``text/dialogues.py`` adds it and checks the order of turns, which is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from beichen.text.dialogue_schemas.alpaca import read_alpaca
from beichen.text.dialogue_schemas.chat_messages import read_messages
from beichen.text.dialogue_schemas.conversations import read_conversations
from beichen.text.dialogue_schemas.telechat1 import read_one_field, read_telechat1
from beichen.text.dialogue_schemas.telechat2 import read_telechat2
from beichen.text.dialogue_schemas.telechat2_tutorial import read_tutorial
from beichen.text.messages import Dialogue


@dataclass(frozen=True)
class Schema:
    """A schema: known by the keys it has and lacks, read by one function."""

    name: str
    read: Callable[[Mapping[str, Any]], Dialogue]
    keys: tuple[str, ...]
    not_keys: tuple[str, ...]
    description: str

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Whether a record's keys are those of this schema."""
        return all(key in record for key in self.keys) and not any(key in record for key in self.not_keys)


SCHEMAS: dict[str, Schema] = {
    schema.name: schema
    for schema in (
        Schema("telechat2", read_telechat2, ("dialog",), (), "system, dialog of role user/bot and content"),
        Schema("messages", read_messages, ("messages",), (), "messages of role and content"),
        Schema("conversations", read_conversations, ("conversations",), (), "conversations of from and value"),
        Schema("telechat2_tutorial", read_tutorial, ("conversation",), (), "conversation of role user/bot/tool and content"),
        Schema("alpaca", read_alpaca, ("instruction", "output"), (), "instruction, input, output"),
        Schema("telechat1", read_telechat1, ("input", "output"), ("instruction",), "input, output"),
        Schema("telechat_one_field", read_one_field, ("input",), ("instruction", "output"), "input with <_user>, <_bot>, <_end>"),
    )
}
