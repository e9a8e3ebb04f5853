"""One record of a dialogue file to a :class:`~beichen.text.messages.Dialogue`, whatever its schema.

Comes in: a JSON object and its place (``file:line``). Rules kept here: a record is read wholly or refused by name, with its place, the
keys that were seen and what was expected; what is no supervised dialogue (preferences, images, plain text, an index) is
refused as what it is; turns alternate as chat does, and the last one answers. The readers stand in ``dialogue_schemas/``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from beichen.errors import DataError
from beichen.text.dialogue_schemas import SCHEMAS, Schema
from beichen.text.messages import Dialogue, Message
from beichen.util.json_kinds import json_kind

PREFERENCE_KEYS = frozenset(("chosen", "rejected", "chosen_messages", "rejected_messages", "kto_tag"))
RATING_KEYS = ("label", "kto_tag")
_MEDIA_KEYS = frozenset(("images", "videos", "audios", "image", "video", "audio"))
_MEDIA_TAG = re.compile(r"<(?:image|video|audio)>")
_PLACEHOLDER = re.compile(r"\{\{\s*(name|author)\s*\}\}")
_INDEX_KEYS = frozenset(("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"))


def read_dialogue(
    record: Mapping[str, Any], origin: str, *, schema: str | None = None, placeholders: Mapping[str, str] | None = None
) -> Dialogue:
    """The dialogue in a record. ``schema`` names it where it must not be guessed from the keys; ``placeholders`` gives the values
    of ``{{name}}`` and ``{{author}}``, which some published files leave open."""
    if not isinstance(record, Mapping):
        raise DataError(f"{origin}: {json_kind(record)}, expected an object that holds a dialogue")
    if found := preference_keys(record):
        raise DataError(
            f"{origin}: preference data (keys {', '.join(found)}), not supervised dialogues",
            remedy="it belongs to preference training; to learn its chosen answers: preferences: chosen, or --preferences chosen",
        )
    refuse_media(record, origin)
    name = schema_of(record, origin) if schema is None else schema
    if name not in SCHEMAS:
        raise DataError(f"{origin}: no dialogue schema is called '{name}'; known: {', '.join(SCHEMAS)}")
    try:
        dialogue = SCHEMAS[name].read(record)
        messages = checked(dialogue.messages, placeholders)
    except DataError as fault:
        raise DataError(f"{origin}: {fault.args[0]} (schema '{name}')", remedy=fault.remedy) from fault
    return Dialogue(messages=messages, tools=dialogue.tools, origin=origin)


def schema_of(record: Mapping[str, Any], origin: str = "record") -> str:
    """The name of a record's schema, from its keys; an unknown one is an error that lists keys and schemas."""
    for name, schema in SCHEMAS.items():
        if schema.fits(record):
            return name
    if "text" in record or "data" in record:
        raise DataError(f"{origin}: plain text for pretraining, not a dialogue", remedy="give it as corpus, not as dialogues")
    _refuse_lists_of_files(record, origin)
    seen = ", ".join(str(key) for key in list(record)[:12]) or "none"
    raise DataError(
        f"{origin}: no dialogue schema has these keys: {seen}", remedy=f"known schemas: {'; '.join(map(_describe, SCHEMAS.values()))}"
    )


def _describe(schema: Schema) -> str:
    return f"{schema.name} ({schema.description})"


def preference_keys(record: Mapping[str, Any]) -> list[str]:
    """The keys that make a record preference data: answers to compare, or one to judge as true or false."""
    found = [] if PREFERENCE_KEYS.isdisjoint(record) else [key for key in record if key in PREFERENCE_KEYS and record[key] is not None]
    return [*found, "label"] if isinstance(record.get("label"), bool) else found


def refuse_media(record: Mapping[str, Any], origin: str) -> None:
    """A record with pictures, films or sounds is refused as what it is."""
    media = [] if _MEDIA_KEYS.isdisjoint(record) else [key for key in record if key in _MEDIA_KEYS and record[key]]
    if media:
        raise DataError(f"{origin}: a multimodal record (key {media[0]}): only text can be trained on")


def _refuse_lists_of_files(record: Mapping[str, Any], origin: str) -> None:
    values = list(record.values())
    if values and all(isinstance(value, Mapping) and not _INDEX_KEYS.isdisjoint(value) for value in values):
        raise DataError(f"{origin}: an index of data sets, not samples", remedy="give the data files that it names")
    if values and all(str(key).endswith((".jsonl", ".json", ".parquet")) for key in record):
        raise DataError(f"{origin}: a mixture (file: weight), not samples", remedy="give the data files that it names")


def checked(messages: Sequence[Message], placeholders: Mapping[str, str] | None) -> list[Message]:
    """Messages in an order that chat has (system? (user assistant+ | assistant with calls, tool+, assistant)*, ending with the
    assistant; a tool result only after a call), placeholders filled in."""
    if not any(message.role == "assistant" for message in messages):
        raise DataError("no answer: there is no assistant turn" if messages else "the dialogue is empty")
    before: Message | None = None
    for index, message in enumerate(messages):
        fault = _turn_fault(before, message, index)
        if fault:
            raise DataError(f"turn {index} ({message.role}): {fault}")
        before = message
    if messages[-1].role != "assistant":
        raise DataError(f"turn {len(messages) - 1} ({messages[-1].role}): the dialogue ends without an answer")
    return [_filled(message, placeholders) for message in messages]


def _turn_fault(before: Message | None, message: Message, index: int) -> str | None:
    if not message.tool_calls and message.role != "tool" and (not message.content or message.content.isspace()):
        return "the content is empty"
    previous = "start" if before is None else before.role
    if message.role == "system":
        return None if index == 0 else "a system turn must come first"
    if message.role == "user":
        return "two questions in a row" if previous == "user" else None
    if message.role == "tool":
        called = before is not None and (before.role == "tool" or before.tool_calls)
        return None if called else "a tool result without a call before it"
    if previous in ("start", "system"):
        return "the answer comes before any question"
    return "two answers in a row" if previous == "assistant" else None


def _filled(message: Message, values: Mapping[str, str] | None) -> Message:
    content = message.content
    if "<" in content and _MEDIA_TAG.search(content):
        raise DataError("multimodal: a turn holds an <image>, <video> or <audio> tag; only text can be trained on")
    found = _PLACEHOLDER.search(content) if "{{" in content else None
    if found is None:
        return message
    missing = [name for name in _PLACEHOLDER.findall(content) if name not in (values or {})]
    if missing:
        raise DataError(
            f"the placeholder {found.group()} is not filled in; the braces would be learnt", remedy=f"give values for: {', '.join(missing)}"
        )
    return replace(message, content=_PLACEHOLDER.sub(lambda match: (values or {})[match.group(1)], content))
