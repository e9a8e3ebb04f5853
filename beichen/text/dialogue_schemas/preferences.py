"""Preference schemas: one reader each, one line each in ``PREFERENCES``.

A record compares two answers to one prompt, or says of one dialogue whether it is good. Each side is read as the whole dialogue that it
would be, by the reader of its schema; where the two sides begin to differ the prompt ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beichen.errors import DataError
from beichen.text.dialogue_schemas.alpaca import read_alpaca
from beichen.text.dialogue_schemas.chat_messages import messages_of, read_messages
from beichen.text.dialogue_schemas.conversations import read_conversations
from beichen.text.dialogue_schemas.fields import tools_of, turns_of
from beichen.text.messages import Dialogue, Message

CHOSEN, REJECTED = "chosen", "rejected"


def _alpaca_side(record: Mapping[str, Any], side: str) -> Dialogue:
    return read_alpaca({**record, "output": record.get(side)})


def _conversations_side(record: Mapping[str, Any], side: str) -> Dialogue:
    return read_conversations({**record, "conversations": [*turns_of(record["conversations"], "conversations"), record.get(side)]})


def _messages_side(record: Mapping[str, Any], side: str) -> Dialogue:
    """``messages`` or ``prompt`` before the answer, if the answer's list does not hold everything itself."""
    before = record.get("messages", record.get("prompt")) or ()
    turns = [{"role": "user", "content": before}] if isinstance(before, str) else turns_of(before, "prompt")
    answer = record.get(side, record.get(f"{side}_messages"))
    if isinstance(answer, str):
        answer = [{"role": "assistant", "content": answer}]
    turns = [*turns, *(answer if isinstance(answer, list) else [answer])]
    return Dialogue(messages=messages_of(turns, side), tools=tools_of(record.get("tools")))


def _rated_alpaca(record: Mapping[str, Any]) -> Dialogue:
    return read_alpaca(record)


def _rated_completion(record: Mapping[str, Any]) -> Dialogue:
    return _messages_side({"prompt": record["prompt"], "chosen": record["completion"]}, CHOSEN)


@dataclass(frozen=True)
class PairSchema:
    """Two answers to one prompt; ``side`` reads the dialogue that ends with one of them."""

    name: str
    side: Callable[[Mapping[str, Any], str], Dialogue]
    keys: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class RatingSchema:
    """One dialogue, and under ``label`` or ``kto_tag`` whether it is good."""

    name: str
    read: Callable[[Mapping[str, Any]], Dialogue]
    keys: tuple[str, ...]
    description: str


PAIRS: Sequence[PairSchema] = (
    PairSchema("conversations_pair", _conversations_side, ("conversations", CHOSEN), "conversations, chosen, rejected of from and value"),
    PairSchema("alpaca_pair", _alpaca_side, ("instruction", CHOSEN), "instruction, input, chosen, rejected"),
    PairSchema("messages_pair", _messages_side, (CHOSEN,), "prompt or messages, chosen, rejected of role and content"),
    PairSchema("whole_messages_pair", _messages_side, (f"{CHOSEN}_messages",), "chosen_messages, rejected_messages"),
)
RATINGS: Sequence[RatingSchema] = (
    RatingSchema("rated_messages", read_messages, ("messages",), "messages, label"),
    RatingSchema("rated_conversations", read_conversations, ("conversations",), "conversations, label"),
    RatingSchema("rated_alpaca", _rated_alpaca, ("instruction", "output"), "instruction, input, output, label"),
    RatingSchema("rated_completion", _rated_completion, ("prompt", "completion"), "prompt, completion, label"),
)


def split_sides(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message], Sequence[Message]]:
    """(prompt, chosen answer, rejected answer) of two whole dialogues."""
    if list(chosen) == list(rejected):
        raise DataError("the chosen and the rejected answer are the same")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    prompt = chosen[:shared]
    if not prompt or any(len(side) == shared or side[shared].role != "assistant" for side in (chosen, rejected)):
        raise DataError("the chosen and the rejected dialogue differ elsewhere than in the assistant's answer")
    return prompt, chosen[shared:], rejected[shared:]
