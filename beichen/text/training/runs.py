"""Words with counts on disk.

A run is a file of records sorted by (hash, bytes); a record is the word's size, its count (both as 7-bit groups, low first), its
bytes. Comes in: runs. Goes out: one run in which each word stands once with the sum of its counts, and a histogram. Sums are
exact and the order is that of the words alone, so neither the number of runs nor what was in which changes the result.
"""

from __future__ import annotations

import ctypes
import heapq
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from beichen.text import compiled
from beichen.util.files import explain_storage_faults

_MASK = (1 << 64) - 1
_ROW = struct.Struct("<3Q")


@dataclass(frozen=True)
class Row:
    """How many distinct words occur ``count`` times, and how many bytes they have together."""

    count: int
    words: int
    bytes: int


def hash_word(word: bytes) -> int:
    """The hash that orders runs, the same as in ``hashing.h``."""
    factor = 0x9E3779B97F4A7C15
    value = len(word) * factor & _MASK
    for start in range(0, len(word), 8):
        value = (value ^ int.from_bytes(word[start : start + 8], "little")) * factor & _MASK
        value ^= value >> 32
    value = value * 0xD6E8FEB86659FD93 & _MASK
    return value ^ value >> 32


def write_run(path: Path, counts: Mapping[bytes, int]) -> None:
    """A run of these words."""
    with explain_storage_faults(path), path.open("wb") as file:
        for _, word in sorted((hash_word(word), word) for word in counts):
            _write(file, word, counts[word])


def read_run(path: Path) -> Iterator[tuple[bytes, int]]:
    """The words of a run with their counts, in its order."""
    with path.open("rb") as file:
        while head := file.read(1):
            size = _number(file, head[0])
            count = _number(file, file.read(1)[0])
            yield file.read(size), count


def combine_runs(runs: Sequence[Path], target: Path, histogram: Path | None = None, *, advance: Callable[[int], None]) -> None:
    """Writes one run of several, and the histogram of its counts. ``advance`` is told how many bytes were read."""
    beside = target.with_name(target.name + ".partial")
    beside_histogram = None if histogram is None else histogram.with_name(histogram.name + ".partial")
    with explain_storage_faults(target):
        if compiled.library() is not None:
            names = b"".join(os.fsencode(run) + b"\0" for run in runs)
            rows = None if beside_histogram is None else os.fsencode(beside_histogram)
            call = compiled.function("text_runs_combine", "plppp>i")
            compiled.check(compiled.watched(call, names, len(runs), os.fsencode(beside), rows, advance=advance), target)
        else:
            _combine_slowly(runs, beside, beside_histogram, advance)
        for made, final in ((beside_histogram, histogram), (beside, target)):
            if made is not None and final is not None:
                _sync(made)
                os.replace(made, final)


def read_histogram(path: Path) -> list[Row]:
    """The rows, counts falling."""
    return [Row(*values) for values in _ROW.iter_unpack(path.read_bytes())]


def histogram_array(rows: Sequence[Row]) -> ctypes.Array[ctypes.c_uint64]:
    """The rows as C++ takes them."""
    flat = [value for row in rows for value in (row.count, row.words, row.bytes)]
    return (ctypes.c_uint64 * len(flat))(*flat)


def _combine_slowly(runs: Sequence[Path], target: Path, histogram: Path | None, advance: Callable[[int], None]) -> None:
    rows: dict[int, list[int]] = {}
    keyed = [((hash_word(word), word, count) for word, count in read_run(run)) for run in runs]
    with target.open("wb") as file:
        for (_, word), same in groupby(heapq.merge(*keyed), key=lambda record: record[:2]):
            total = sum(count for _, _, count in same)
            _write(file, word, total)
            row = rows.setdefault(total, [0, 0])
            row[0] += 1
            row[1] += len(word)
    advance(sum(run.stat().st_size for run in runs))
    if histogram is not None:
        histogram.write_bytes(b"".join(_ROW.pack(count, *rows[count]) for count in sorted(rows, reverse=True)))


def _write(file: BinaryIO, word: bytes, count: int) -> None:
    file.write(bytes(_groups(len(word))) + bytes(_groups(count)) + word)


def _groups(value: int) -> Iterable[int]:
    while value >= 128:
        yield value & 127 | 128
        value >>= 7
    yield value


def _number(file: BinaryIO, byte: int) -> int:
    value = shift = 0
    while byte >= 128:
        value |= (byte & 127) << shift
        shift += 7
        byte = file.read(1)[0]
    return value | byte << shift


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
