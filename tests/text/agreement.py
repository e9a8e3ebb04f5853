"""How many golden encodings, decodings and prompts each tokenizer gives as the original did: ``python -m tests.text.agreement``.

Where a count is not full, the golden's README or a numbered fault of the reference says that the original is wrong; the tests in
``test_golden_tokenizers.py`` and ``test_golden_templates.py`` hold each of those rows to what is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from beichen.text.stream import IncrementalDecoder
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from tests.shared_data import SHARED
from tests.text.sentencepiece_models import telechat2_7b

FOLDER = SHARED / "golden/tokenizers"
DEFAULTS = {  # folder -> default chat format of its family
    "ndl": "ndl",
    "telechat-12b": "telechat",
    "telechat-52b": "telechat52b",
    "telechat2-115b": "telechat2",
    "telechat2-7b": "telechat2",
}


@lru_cache(maxsize=16)
def golden_tokenizer(name: str, template: str | None = None) -> Tokenizer:
    """The tokenizer of a golden folder, with its family's chat format or another one."""
    if template is not None:
        return golden_tokenizer(name).with_template(template)
    if name == "telechat2-7b":
        return Tokenizer(telechat2_7b(FOLDER), origin=name, default_template=DEFAULTS[name])
    return read_tokenizer(FOLDER / name, default_template=DEFAULTS[name])


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a golden file."""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            yield json.loads(line)


def streamed(tokenizer: Tokenizer, ids: list[int], *, skip_special: bool) -> str:
    """What a chat window shows in the end."""
    decoder = IncrementalDecoder(tokenizer, skip_special=skip_special)
    return "".join([*map(decoder.push, ids), decoder.finish()])


def count(name: str) -> Mapping[str, tuple[int, int]]:
    """Equal and all, by what is compared."""
    tokenizer = golden_tokenizer(name)
    found: dict[str, list[bool]] = {}

    def note(what: str, equal: bool) -> None:
        found.setdefault(what, []).append(equal)

    for file in ("cases", "decode_cases"):
        for row in rows(FOLDER / name / f"{file}.jsonl"):
            ids = row["ids"]
            if "text" in row:
                note("ids", tokenizer.encode(row["text"], allow_special=True) == ids)
            note("text as published", tokenizer.decode_as_published(ids, skip_special=False) == row["decoded"])
            note("text as published, skipping", tokenizer.decode_as_published(ids) == row["decoded_skip_special"])
            if "decoded_no_spaces_between_special" in row:
                shown = tokenizer.decode_as_published(ids, skip_special=False, spaces=False)
                note("text as published, no spaces", shown == row["decoded_no_spaces_between_special"])
            note("our text", tokenizer.decode(ids, skip_special=False) == row["decoded"])
            note("our text, skipping", tokenizer.decode(ids) == row["decoded_skip_special"])
            for skip in (True, False):
                note("stream = decode", streamed(tokenizer, ids, skip_special=skip) == tokenizer.decode(ids, skip_special=skip))
    if (FOLDER / name / "stream_cases.jsonl").exists():
        for row in rows(FOLDER / name / "stream_cases.jsonl"):
            note("stream = text", streamed(tokenizer, row["ids"], skip_special=True) == row["text"])
    return {what: (sum(equal), len(equal)) for what, equal in found.items()}


def table() -> list[str]:
    """One line per tokenizer and comparison."""
    return [f"{name:<16} {what:<30} {equal:>4} of {total}" for name in DEFAULTS for what, (equal, total) in count(name).items()]


if __name__ == "__main__":
    print("\n".join(table()))
