"""``BlockEncoder``: what one process does with a block: parse, clean, check, grade, fingerprint, tokenize.

In: a ``Block``. Out: ``EncodedBlock``, all arrays, ready to be written; ``encode_in_order`` spreads blocks over processes. Rule: the
outcome follows from the block alone; whatever depends on other blocks (duplicates, shards) is decided by the one who gathers them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from beichen.data.account import Account, OnBad
from beichen.data.blocks import Block, documents_of_block
from beichen.data.cleaning import Cleaner
from beichen.data.contamination import Benchmarks
from beichen.data.grading import grade
from beichen.data.minhash import PERMUTATIONS, Level, signature, text_key
from beichen.data.source_list import Source
from beichen.data.split import is_held_out
from beichen.data.store import join_documents
from beichen.errors import StorageError
from beichen.util.machine import usable_cores

ALONE_SECONDS = 3.0  # before others are started, which takes one or two


class Encoder(Protocol):
    """The part of ``text.Tokenizer`` that encoding needs."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def end_id(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def encode_batch(self, texts: Sequence[str], /) -> list[list[int]]: ...


@dataclass(frozen=True, kw_only=True)
class BlockWork:
    """What is to be done with every block."""

    sources: tuple[Source, ...]
    duplicates: Level = "none"
    benchmarks: Path | None = None  # a table that ``contamination`` saved
    grades: bool = False
    held_out_fraction: float = 0.0
    on_bad: OnBad = "count"


@dataclass
class EncodedBlock:
    """Documents as ids, end to end, and what is known of each. ``account`` lacks what is used: that is decided later."""

    source: int
    ids: np.ndarray
    lengths: np.ndarray  # tokens of each document, its end token included
    columns: dict[str, np.ndarray]
    held_out: np.ndarray  # [documents] bool
    keys: list[int] | None
    signatures: np.ndarray | None
    account: Account
    warnings: list[str]


class BlockEncoder:
    """One for each process."""

    def __init__(self, tokenizer: Encoder, work: BlockWork) -> None:
        self._tokenizer, self._work = tokenizer, work
        self._dtype = np.uint16 if tokenizer.vocab_size < 1 << 16 else np.uint32
        self._cleaners = [Cleaner(source.clean) for source in work.sources]
        self._benchmarks = None if work.benchmarks is None else Benchmarks.load(work.benchmarks)

    def __call__(self, block: Block) -> EncodedBlock:
        work, account, clean = self._work, block.account, self._cleaners[block.source]
        kept: list[str] = []
        dropped: list[tuple[str, str]] = []  # (text, reason)
        for document in documents_of_block(block, work.sources[block.source], work.on_bad):
            cleaned = clean(document.text)
            reason = cleaned.dropped
            if reason is None and self._benchmarks is not None and (name := self._benchmarks.find(cleaned.text)):
                reason = f"in benchmark {name}"
            for rule, size in cleaned.changed.items():
                account.change(rule, size)
            for fact, count in cleaned.noted.items():
                account.note(fact, 0, count)
            if reason is None:
                kept.append(cleaned.text)
            else:
                dropped.append((cleaned.text, reason))
        encoded = self._tokenizer.encode_batch([*kept, *(text for text, _ in dropped)])
        for (text, reason), ids in zip(dropped, encoded[len(kept) :], strict=True):
            account.drop(reason, len(text.encode()), tokens=len(ids) + 1)
        account.read.tokens = sum(map(len, encoded)) + len(encoded)
        joined, lengths = join_documents(encoded[: len(kept)], self._tokenizer.end_id)
        return EncodedBlock(
            source=block.source,
            ids=joined.astype(self._dtype) if not len(joined) or joined.max() < self._tokenizer.vocab_size else joined,
            lengths=lengths,
            columns=self._columns(kept),
            held_out=np.array([is_held_out(text, work.held_out_fraction) for text in kept], bool),
            keys=None if work.duplicates == "none" else [text_key(text, work.duplicates) for text in kept],
            signatures=_signatures(kept) if work.duplicates == "near" else None,
            account=account,
            warnings=block.warnings,
        )

    def _columns(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {"bytes": np.array([len(text.encode()) for text in texts], np.int64)}
        if self._work.grades:
            grades = np.array([grade(text) for text in texts], np.uint8).reshape(-1, 2)
            columns |= {"quality": grades[:, 0], "difficulty": grades[:, 1]}
        return columns


def _signatures(texts: Sequence[str]) -> np.ndarray:
    return np.array([signature(text) for text in texts], np.uint32).reshape(-1, PERMUTATIONS)


_encoder: BlockEncoder | None = None


def start_worker(tokenizer: Encoder, work: BlockWork) -> None:
    """Makes this process ready for ``encode_block``; it ends when the one that started it does, however that ended."""
    global _encoder
    os.environ["RAYON_NUM_THREADS"] = "1"  # the processes share the cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gathers
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _encoder = BlockEncoder(tokenizer, work)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def encode_block(block: Block) -> EncodedBlock:
    assert _encoder is not None
    return _encoder(block)


def encode_in_order(
    blocks: Iterator[tuple[int, int, Block | None]], tokenizer: Encoder, work: BlockWork, workers: int | None, folder: Path
) -> Iterator[tuple[int, int, EncodedBlock | None]]:
    """The blocks encoded, in order, with what stood beside them. One worker is this process; ``None``: this process, and as many as there
    are cores in its place where the work goes on for longer than starting them takes."""
    cores = usable_cores()
    if workers == 1 or workers is None:
        encoder, end = BlockEncoder(tokenizer, work), time.monotonic() + ALONE_SECONDS
        for place, count, block in blocks:
            yield place, count, None if block is None else encoder(block)
            if workers is None and cores > 1 and time.monotonic() >= end:
                break
        else:
            return
    yield from _by_processes(blocks, tokenizer, work, workers or cores, folder)


def _by_processes(
    blocks: Iterator[tuple[int, int, Block | None]], tokenizer: Encoder, work: BlockWork, workers: int, folder: Path
) -> Iterator[tuple[int, int, EncodedBlock | None]]:
    """A few blocks are under way at any time."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker, initargs=(tokenizer, work))
    waiting: deque[tuple[int, int, Future[EncodedBlock] | None]] = deque()
    try:
        for place, count, block in blocks:
            waiting.append((place, count, None if block is None else pool.submit(encode_block, block)))
            if len(waiting) > 2 * workers + 2:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    except BrokenExecutor as error:
        raise StorageError(
            f"{folder}: a worker process was ended by the system, which may be out of memory",
            remedy="start again with fewer --workers: it goes on where it was",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(waiting: tuple[int, int, Future[EncodedBlock] | None]) -> tuple[int, int, EncodedBlock | None]:
    place, count, future = waiting
    return place, count, None if future is None else future.result()
