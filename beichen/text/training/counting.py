"""Counting the pieces of texts on all cores, in tables of fixed size that spill to disk.

Comes in: texts, in any order and number of batches. Goes out: runs (see ``runs``) that hold every piece of every text exactly once.
A counter never drops a word: when its table is full it writes a run and begins anew.
"""

from __future__ import annotations

import os
import queue
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import tokenizers
from tokenizers import pre_tokenizers

from beichen.errors import TokenizerError
from beichen.text import compiled
from beichen.text.pre_tokenization import split_pattern
from beichen.text.training.runs import write_run

_SLOW_BYTES_PER_WORD = 150  # of Python's own, in a Counter
Normalize = Callable[[str], str]


class _Table(Protocol):
    def count(self, texts: Sequence[str], spill: Callable[[], None]) -> None: ...
    def spill(self, path: Path) -> None: ...
    @property
    def words(self) -> int: ...
    def close(self) -> None: ...


class _FastTable:
    def __init__(self, pattern: str, budget: int) -> None:
        self._count = compiled.function("text_table_count", "pppll>l")
        self._handle = compiled.function("text_table_new", "il>p")(compiled.PATTERN_NUMBERS[pattern], budget)
        if not self._handle:
            raise MemoryError(f"no memory for a table of {budget} bytes")

    def count(self, texts: Sequence[str], spill: Callable[[], None]) -> None:
        parts = [text.encode() for text in texts]
        ends, end = array("q"), 0
        for part in parts:
            end += len(part)
            ends.append(end)
        joined, place = b"".join(parts), 0
        del parts
        while (stop := self._count(self._handle, joined, ends.buffer_info()[0], len(ends), place)) < end:
            if stop == place and not self.words:
                raise TokenizerError(
                    f"one piece of text is too large for a table of the memory given (at byte {stop} of a batch)",
                    remedy="give more memory, or a pattern that bounds its pieces: --pattern han",
                )
            place = stop
            spill()

    def spill(self, path: Path) -> None:
        compiled.check(compiled.function("text_table_spill", "pp>i")(self._handle, os.fsencode(path)), path)

    @property
    def words(self) -> int:
        return int(compiled.function("text_table_words", "p>l")(self._handle))

    def close(self) -> None:
        compiled.function("text_table_free", "p")(self._handle)


class _SlowTable:
    def __init__(self, pattern: str, budget: int) -> None:
        self._splitter = pre_tokenizers.Split(tokenizers.Regex(split_pattern(pattern)), behavior="isolated")
        self._counts: Counter[str] = Counter()
        self._most = max(1, budget // _SLOW_BYTES_PER_WORD)

    def count(self, texts: Sequence[str], spill: Callable[[], None]) -> None:
        for text in texts:
            self._counts.update(piece for piece, _ in self._splitter.pre_tokenize_str(text))
            if len(self._counts) >= self._most:
                spill()

    def spill(self, path: Path) -> None:
        write_run(path, {word.encode(): count for word, count in self._counts.items()})
        self._counts.clear()

    @property
    def words(self) -> int:
        return len(self._counts)

    def close(self) -> None:
        self._counts.clear()


class Counters:
    """Some threads with a table each; ``with Counters(...) as counters``."""

    def __init__(self, folder: Path, pattern: str, *, budget: int, workers: int, normalize: Normalize | None) -> None:
        """``folder``: where runs go; ``budget``: bytes for all tables together."""
        table = _FastTable if compiled.library() is not None else _SlowTable
        self._folder, self._normalize = folder, normalize
        self._tables: list[_Table] = [table(pattern, budget // workers) for _ in range(workers)]
        self._work: queue.Queue[Sequence[str] | None] = queue.Queue(maxsize=workers)
        self._faults: list[BaseException] = []
        self._runs: list[str] = []
        self._lock = threading.Lock()
        self._number = 0
        self._threads = [threading.Thread(target=self._serve, args=(table,), daemon=True) for table in self._tables]

    def __enter__(self) -> Counters:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()
        for table in self._tables:
            table.close()

    def add(self, texts: Sequence[str]) -> None:
        """Hands texts to whichever thread is free."""
        self._raise_faults()
        self._work.put(texts)

    def spill(self) -> list[str]:
        """Waits until all is counted, empties every table; the names of all runs since the last call."""
        self._work.join()
        self._raise_faults()
        writers = [threading.Thread(target=self._guarded, args=(self._spill, table)) for table in self._tables]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        self._raise_faults()
        runs, self._runs = sorted(self._runs), []
        return runs

    def _serve(self, table: _Table) -> None:
        while (texts := self._work.get()) is not None:
            if not self._faults:
                self._guarded(self._count, table, texts)
            self._work.task_done()
        self._work.task_done()

    def _count(self, table: _Table, texts: Sequence[str]) -> None:
        if self._normalize is not None:
            texts = [self._normalize(text) for text in texts]
        table.count(texts, lambda: self._spill(table))

    def _spill(self, table: _Table) -> None:
        if not table.words:
            return
        with self._lock:
            self._number += 1
            name = f"{os.getpid()}-{self._number:06d}.run"
        path = self._folder / name
        table.spill(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        with self._lock:
            self._runs.append(name)

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except BaseException as fault:  # handed to the thread that asked
            self._faults.append(fault)

    def _raise_faults(self) -> None:
        if self._faults:
            raise self._faults[0]
