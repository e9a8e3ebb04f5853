"""More text than there is, with words that differ: copies of a corpus whose characters are moved.

Comes in: corpus files. Goes out: documents in the order of their hashes, first as they are, then copy after copy until there are enough
bytes. In copy k each Han character (U+4E00 to U+9FFF) moves 97 x k places within that block, each ASCII letter k places within its
alphabet. A copy so has the statistics of the original and hardly one of its words: the worst case for whatever holds distinct words.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from beichen.data.sources import read_documents

_HAN, _HAN_SIZE = 0x4E00, 0x9FFF - 0x4E00 + 1


def varied_texts(files: Iterable[Path], size: int) -> Iterator[str]:
    """Texts of ``size`` bytes together, the last one cut."""
    originals = sorted((document.text for document in read_documents(files)), key=_shuffled)
    for copy in itertools.count():
        moved = _moves(copy)
        for original in originals:
            text = original.translate(moved) if copy else original
            data = text.encode()[:size]
            size -= len(data)
            yield data.decode("utf-8", "ignore")
            if size <= 0:
                return


def write_varied(files: Iterable[Path], size: int, target: Path) -> Path:
    """The same as a file of JSON lines, made once."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(".partial")
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            for text in varied_texts(files, size):
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        beside.rename(target)
    return target


def _shuffled(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _moves(copy: int) -> dict[int, int]:
    moved = {_HAN + place: _HAN + (place + 97 * copy) % _HAN_SIZE for place in range(_HAN_SIZE)}
    for first in (ord("A"), ord("a")):
        moved |= {first + place: first + (place + copy) % 26 for place in range(26)}
    return moved


def megabytes(name: str) -> int:
    """The bytes of ``40MB``."""
    match = re.fullmatch(r"(\d+)MB", name)
    if match is None:
        raise ValueError(f"'{name}' is no size such as 40MB")
    return int(match.group(1)) * 1_000_000
