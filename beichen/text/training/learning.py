"""Learning merges from counted words: again and again the most frequent pair of neighbouring symbols becomes a symbol of its own.

Comes in: a run of words and the merges already known. Goes out: more merges, in order. Among equally frequent pairs the smaller
left symbol wins, then the smaller right one, as in ``tokenizers``; symbols 0 to 255 are the bytes in the order of the published
alphabet, the others follow as they are learnt. One deliberate difference: no piece is ever spelled like a control token.
"""

from __future__ import annotations

import ctypes
import heapq
import os
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from beichen.text import compiled
from beichen.text.training.runs import Row, hash_word, histogram_array, read_run
from beichen.text.training.sampling import kept_count, symbol_bytes

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class LearningTask:
    """What decides the merges, and what only decides how they are found (``budget``, ``threads``)."""

    byte_symbols: Sequence[int]  # the symbol of each byte
    forbidden: Sequence[bytes]  # pieces that may not arise
    most_symbols: int  # bytes and merges
    threshold: int  # of sampling
    budget: int
    threads: int


class Learner(Protocol):
    def learn(self, most: int, seconds: float) -> list[Pair]:
        """Up to ``most`` further merges, or as many as the time allows; none: there is no pair left."""


@contextmanager
def open_learner(
    words: Path, histogram: Sequence[Row], task: LearningTask, earlier: Sequence[Pair], advance: Callable[[int], None]
) -> Iterator[Learner]:
    """A learner that goes on after ``earlier`` merges; ``advance`` is told how many bytes of the words were read."""
    if compiled.library() is None:
        yield _SlowLearner(words, task, earlier)
        return
    fast = _FastLearner(words, histogram, task, earlier, advance)
    try:
        yield fast
    finally:
        fast.close()


class _Learnt(ctypes.Structure):
    _fields_ = (("left", ctypes.c_uint32), ("right", ctypes.c_uint32), ("count", ctypes.c_int64))


class _Task(ctypes.Structure):
    _fields_ = (
        ("byte_symbols", ctypes.c_char_p),
        ("forbidden", ctypes.c_char_p),
        ("forbidden_number", ctypes.c_int64),
        ("most_symbols", ctypes.c_int64),
        ("sampled_below", ctypes.c_int64),
        ("budget", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("histogram", ctypes.c_void_p),
        ("histogram_rows", ctypes.c_int64),
        ("earlier", ctypes.c_void_p),
        ("earlier_number", ctypes.c_int64),
    )


class _FastLearner:
    def __init__(
        self, words: Path, histogram: Sequence[Row], task: LearningTask, earlier: Sequence[Pair], advance: Callable[[int], None]
    ) -> None:
        rows, known = histogram_array(histogram), array("I", [symbol for pair in earlier for symbol in pair])
        given = _Task(
            bytes(task.byte_symbols), b"".join(name + b"\0" for name in task.forbidden), len(task.forbidden), task.most_symbols,
            task.threshold, task.budget, task.threads, ctypes.addressof(rows), len(histogram), known.buffer_info()[0], len(earlier),
        )  # fmt: skip
        error = ctypes.c_int(0)
        wide = int(symbol_bytes(task.most_symbols) == 4)
        call = compiled.function("text_learner_new", "ppipp>p")
        self._handle = compiled.watched(
            call, os.fsencode(words), ctypes.byref(given), wide, advance=advance, more=(ctypes.addressof(error),)
        )
        compiled.check(error.value, words)

    def learn(self, most: int, seconds: float) -> list[Pair]:
        learnt = (_Learnt * most)()
        number = compiled.function("text_learner_learn", "pldp>l")(self._handle, most, seconds, learnt)
        if number < 0:
            raise MemoryError("no memory to go on merging")
        return [(one.left, one.right) for one in learnt[:number]]

    def close(self) -> None:
        compiled.function("text_learner_free", "p")(self._handle)


class _SlowLearner:
    """The same by plain means; words are lists, so it takes many times the memory."""

    def __init__(self, words: Path, task: LearningTask, earlier: Sequence[Pair]) -> None:
        self._task = task
        self._pieces = [b""] * 256
        for byte, symbol in enumerate(task.byte_symbols):
            self._pieces[symbol] = bytes([byte])
        ranks: dict[Pair, int] = {}
        for left, right in earlier:
            ranks[left, right] = len(self._pieces)
            self._pieces.append(self._pieces[left] + self._pieces[right])
        self._words: list[list[int]] = []
        self._counts: list[int] = []
        self._pairs: defaultdict[Pair, int] = defaultdict(int)
        self._where: defaultdict[Pair, set[int]] = defaultdict(set)
        for word, count in read_run(words):
            kept = kept_count(hash_word(word), count, task.threshold) if task.threshold > 1 else count
            if kept:
                self._add(merge_by_rank([task.byte_symbols[byte] for byte in word], ranks), kept)
        self._queue = [(-count, pair) for pair, count in self._pairs.items()]
        heapq.heapify(self._queue)

    def _add(self, symbols: list[int], count: int) -> None:
        for pair in pairwise(symbols):
            self._pairs[pair] += count
            self._where[pair].add(len(self._words))
        self._words.append(symbols)
        self._counts.append(count)

    def learn(self, most: int, seconds: float) -> list[Pair]:
        learnt: list[Pair] = []
        until = time.monotonic() + seconds
        while self._queue and len(learnt) < most and len(self._pieces) < self._task.most_symbols:
            negative, pair = heapq.heappop(self._queue)
            if self._pairs[pair] != -negative:
                if self._pairs[pair] > 0:
                    heapq.heappush(self._queue, (-self._pairs[pair], pair))
                continue
            piece = self._pieces[pair[0]] + self._pieces[pair[1]]
            if piece in self._task.forbidden:
                continue
            learnt.append(pair)
            self._pieces.append(piece)
            self._join(pair, len(self._pieces) - 1)
            if time.monotonic() > until:
                break
        return learnt

    def _join(self, pair: Pair, symbol: int) -> None:
        made: set[Pair] = set()
        for number in self._where.pop(pair):
            old, count = self._words[number], self._counts[number]
            new = merge_by_rank(old, {pair: symbol})
            for one in pairwise(old):
                self._pairs[one] -= count
            for one in pairwise(new):
                self._pairs[one] += count
                if symbol in one:
                    made.add(one)
                    self._where[one].add(number)
            self._words[number] = new
        for one in made:
            heapq.heappush(self._queue, (-self._pairs[one], one))


def merge_by_rank(symbols: list[int], ranks: dict[Pair, int]) -> list[int]:
    """Byte-pair encoding by its definition: ``ranks`` gives the symbol that a pair makes, and the smallest is made first."""
    while True:
        known = [ranks[pair] for pair in pairwise(symbols) if pair in ranks]
        if not known:
            return symbols
        best = min(known)
        joined: list[int] = []
        at = 0
        while at < len(symbols):
            if at + 1 < len(symbols) and ranks.get((symbols[at], symbols[at + 1])) == best:
                joined.append(best)
                at += 2
            else:
                joined.append(symbols[at])
                at += 1
        symbols = joined
