"""What a record's text is: one function and one line for each kind of corpus.

In: a record (an object of jsonl, an element of an array, a row of a table). Out: its text, exactly as it stands there, or ``None`` where
the record has none; whoever asked counts that under ``Reader.without``. Chinese encyclopedias join title and body by a full-width colon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from beichen.errors import SettingsError, nearest

TEXT_KEYS = ("text", "data", "content")  # tried in this order when no key is named
TextUnit = Literal["pieces", "file", "lines", "paragraphs", "entries"]
TEXT_UNITS: tuple[TextUnit, ...] = get_args(TextUnit)


@dataclass(frozen=True)
class Reader:
    """How one kind of corpus is read. ``columns``: the keys it looks at; ``build`` makes the text, ``None`` means: the first of them."""

    columns: tuple[str, ...]
    build: Callable[[Mapping[str, Any]], str | None] | None = None
    without: str = "no text key"  # how a record without text is counted
    text_unit: TextUnit = "pieces"  # how plain text files are cut


def _wikipedia_zh(record: Mapping[str, Any]) -> str | None:
    """The filtered release of 2023-07-20 (``completion``), or articles with a title of their own."""
    title, text = _string(record, "title"), _string(record, "completion") or _string(record, "text")
    return f"{title}：{text}" if title and text else text


def _baike(record: Mapping[str, Any]) -> str | None:
    """``title：summary``, then each section's title and content, all of it: cutting is the work of packing."""
    title = _string(record, "title")
    if title is None:
        return None
    sections = [section for section in record.get("sections") or () if isinstance(section, Mapping)]
    parts = [_string(section, key) for section in sections for key in ("title", "content")]
    body = "\n".join(part for part in (_string(record, "summary"), *parts) if part)
    return f"{title}：{body}" if body else None


def _belle(record: Mapping[str, Any]) -> str | None:
    """The turns of a dialogue, one after another, as plain text; to train on answers alone, give the file as dialogues."""
    turns = [turn for turn in record.get("conversations") or () if isinstance(turn, Mapping)]
    values = [_string(turn, "value") for turn in turns]
    return "\n".join(value for value in values if value) or None


def _string(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    return value if isinstance(value, str) and value.strip() else None


READERS = {
    "text": Reader(TEXT_KEYS),
    "skypile": Reader(("text",)),
    "wikipedia-zh": Reader(("completion", "title", "text"), _wikipedia_zh, "no article text", text_unit="entries"),
    "wikipedia-en": Reader(("text",)),
    "baike": Reader(("title", "summary", "sections"), _baike, "no title or no body"),
    "github-code": Reader(("code", "content")),
    "belle": Reader(("conversations",), _belle, "no conversation"),
}


def find_reader(name: str, text_key: str | None = None, where: str = "reader") -> Reader:
    """The reader of that name; ``text_key`` names another key than the reader's own."""
    if name not in READERS:
        raise SettingsError(f"{where}: unknown reader '{name}'{nearest(name, READERS)}", remedy=f"one of: {', '.join(READERS)}")
    return READERS[name] if text_key is None else Reader((text_key,))
