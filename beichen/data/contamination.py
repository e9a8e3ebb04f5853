"""Whether a document holds text of a benchmark: runs of 13 units that both have, a unit being a Han character or a word.

In: benchmark files (.jsonl, .json, .csv, .txt, .parquet, also .gz, .zst; .zip with such files). Out: a table of their grams, which worker
processes map. Case, compatibility forms, white space and punctuation do not count. Rule: every leak of 13 units or more of an item is
found, wherever it stands; an item that is shorter as a whole cannot be told from ordinary speech and is counted as not checked.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from beichen.data.account import BadInput
from beichen.data.files import FORMATS, TABLES, expand_paths, format_of
from beichen.data.minhash import mix
from beichen.data.records import read_records
from beichen.data.scripts import CYRILLIC, DIGIT, HAN, HANGUL, KANA, LATIN, OTHER, character_kinds, code_points
from beichen.data.streams import open_bytes
from beichen.errors import DataError

GRAM_UNITS = 13
_UINT64 = np.uint64
_FACTOR = _UINT64(0x9E3779B97F4A7C15)
_FILTER_BITS = 25
_WORD, _ALONE = (LATIN, DIGIT, CYRILLIC, OTHER), (HAN, KANA, HANGUL)
_IN_WORD, _IS_ALONE = (np.isin(np.arange(10), kinds) for kinds in (_WORD, _ALONE))


def units_of(text: str) -> np.ndarray:
    """A number for each Han character, kana, hangul syllable or word, in order. [units] uint64"""
    points = code_points(unicodedata.normalize("NFKC", text).casefold())
    kinds = character_kinds(points)
    word, alone = _IN_WORD[kinds], _IS_ALONE[kinds]
    starts = alone | (word & ~np.concatenate(([False], word[:-1])))
    kept = word | alone
    begins = np.flatnonzero(starts[kept])
    if not len(begins):
        return np.zeros(0, _UINT64)
    letters = points[kept].astype(_UINT64)
    place = np.arange(len(letters)) - np.repeat(begins, np.diff(np.append(begins, len(letters))))
    return mix(np.add.reduceat(mix(letters + place.astype(_UINT64) * _FACTOR), begins))


def unit_grams(text: str) -> np.ndarray:
    """A number for each run of 13 units. [grams] uint64"""
    units = units_of(text)
    count = max(0, len(units) - GRAM_UNITS + 1)
    sums = np.zeros(count, _UINT64)
    for place in range(GRAM_UNITS if count else 0):
        sums = sums * _FACTOR + units[place : place + count]
    return mix(sums)


@dataclass(frozen=True)
class Benchmarks:
    """Sorted grams and the file that each is from."""

    names: tuple[str, ...]
    grams: np.ndarray
    owners: np.ndarray
    items: int
    unchecked: int  # items too short to be found
    _possible: np.ndarray = field(init=False, repr=False, compare=False)  # by the first bits of a gram: whether any begins with them

    def __post_init__(self) -> None:
        possible = np.zeros(1 << _FILTER_BITS, bool)
        possible[self.grams >> _UINT64(64 - _FILTER_BITS)] = True
        object.__setattr__(self, "_possible", possible)

    def find(self, text: str) -> str | None:
        """The benchmark that the text holds a part of, if any."""
        grams = unit_grams(text)
        grams = grams[self._possible[grams >> _UINT64(64 - _FILTER_BITS)]]
        if not len(grams):
            return None
        places = np.minimum(np.searchsorted(self.grams, grams), len(self.grams) - 1)
        hits = places[self.grams[places] == grams]
        return self.names[self.owners[hits[0]]] if len(hits) else None

    def save(self, path: Path) -> None:
        np.savez(path, grams=self.grams, owners=self.owners, facts=np.array([self.items, self.unchecked]), names=np.array(self.names))

    @classmethod
    def load(cls, path: Path) -> Benchmarks:
        with np.load(path) as stored:
            items, unchecked = stored["facts"].tolist()
            return cls(tuple(stored["names"].tolist()), stored["grams"], stored["owners"], items, unchecked)


def read_benchmarks(paths: Sequence[str | Path]) -> Benchmarks:
    """The grams of all items of the files."""
    files: list[Path] = []
    for path in paths:
        zipped = Path(path).suffix.lower() == ".zip" or ".csv" in Path(path).suffixes
        files += [Path(path)] if zipped and Path(path).is_file() else expand_paths([path])
    grams, owners, items, unchecked = [], [], 0, 0
    for number, file in enumerate(files):
        found = [unit_grams(text) for text in _items(file)]
        items += len(found)
        unchecked += sum(not len(one) for one in found)
        joined = np.unique(np.concatenate([np.zeros(0, _UINT64), *found]))
        grams.append(joined)
        owners.append(np.full(len(joined), number, np.uint16))
    every, where = np.unique(np.concatenate(grams), return_index=True)
    if not len(every):
        raise DataError(f"{', '.join(map(str, paths))}: no benchmark item of {GRAM_UNITS} words or characters", remedy="check the files")
    return Benchmarks(tuple(file.name for file in files), every, np.concatenate(owners)[where], items, unchecked)


def _items(file: Path) -> Iterator[str]:
    if file.suffix.lower() == ".zip":
        with zipfile.ZipFile(file) as packed:
            for name in packed.namelist():
                if not name.endswith("/"):
                    yield from _items_of_bytes(packed.read(name), Path(name))
    elif format_of(file) in ("jsonl", *TABLES):
        for record in read_records(file, BadInput("count")):
            yield from _texts(record.value)
    else:
        with open_bytes(file) as stream:
            yield from _items_of_bytes(stream.read(), file)


def _items_of_bytes(content: bytes, path: Path) -> Iterator[str]:
    """The items of a small file; one of an unknown kind (a licence, a picture) has none."""
    suffix = next((one for one in reversed(path.suffixes) if one in (*FORMATS, ".csv")), "")
    if not suffix or FORMATS.get(suffix) in TABLES:
        return
    text = content.decode("utf-8-sig", "replace")
    if suffix == ".csv":
        yield from ("\n".join(row) for row in csv.reader(io.StringIO(text, newline="")))
    elif suffix == ".json":
        yield from _texts(json.loads(text))
    elif FORMATS[suffix] == "jsonl":
        for line in text.split("\n"):
            if line.strip():
                yield from _texts(json.loads(line))
    else:
        yield text


def _texts(value: Any) -> Iterator[str]:
    """An object's own strings and lists of strings as one text; objects inside it apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        if value and all(isinstance(one, str) for one in value):
            yield "\n".join(value)
        else:
            for one in value:
                yield from _texts(one)
    elif isinstance(value, dict):
        flat = [one if isinstance(one, str) else "\n".join(one) for one in value.values() if isinstance(one, str) or _strings(one)]
        if flat:
            yield "\n".join(flat)
        for one in value.values():
            if not isinstance(one, str) and not _strings(one):
                yield from _texts(one)


def _strings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
