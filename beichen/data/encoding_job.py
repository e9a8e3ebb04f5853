"""``encode_sources``: any amount of text to shards, in bounded memory, on all cores, one part of several machines; killed, it goes on.

In: sources, a tokenizer, settings. Out: a folder that ``encoded_text`` opens. Blocks of the files go to worker processes and come back in
order; duplicates are dropped and shards written by this process alone. Every few seconds what was written is made durable and the state
committed; a pass that is started again goes on from there. Rule: the shards follow from the files, the tokenizer and the settings, never
from the number of processes or from kills; what was read is what was written and what was dropped, to the token.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from beichen.data.account import WARNINGS_SHOWN, Account, OnBad
from beichen.data.block_encoding import BlockWork, EncodedBlock, Encoder, encode_in_order
from beichen.data.blocks import Block, read_blocks
from beichen.data.contamination import read_benchmarks
from beichen.data.deduplication import LIKE, SAME, Progress
from beichen.data.encode_settings import DEFAULT_SETTINGS, EncodeSettings
from beichen.data.encoded_text import DESCRIPTION, FORMAT, HELD_OUT, TOKENIZER_FOLDER, TRAIN, VERSION, read_description
from beichen.data.grading import COLUMNS
from beichen.data.shards import remove_tables
from beichen.data.source_list import Source
from beichen.data.store import StoreWriter
from beichen.data.verification import require_sound
from beichen.errors import DataError, StorageError
from beichen.util.files import FolderLock, explain_storage_faults, prepare_folder, write_atomically
from beichen.util.progress import SILENT, Reporter, Task

COMMIT_SECONDS = 2.0
WORK_FOLDER, LEDGER_FILE = ".work", "ledger.txt"


def encode_sources(
    sources: Sequence[Source],
    tokenizer: Encoder,
    out: str | Path,
    *,
    settings: EncodeSettings = DEFAULT_SETTINGS,
    strict: bool = False,
    bad_share: float = 0.01,
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> Account:
    """Encodes all sources into ``out`` (with parts: into a folder inside it); returns the ledger, whose sums were checked.

    ``strict`` stops at the first bad record, ``bad_share`` is how many may be bad. ``workers``: processes; 1 stays in this one, ``None``
    starts one per core where there is work for more than a few seconds.
    """
    folder = Path(out) if settings.part[1] == 1 else Path(out) / f"part-{settings.part[0]}-of-{settings.part[1]}"
    stated = json.loads(json.dumps(_stated(sources, tokenizer, settings)))  # as it will be read again
    prepare_folder(folder)
    with FolderLock(folder), explain_storage_faults(folder, inside=folder):
        if (folder / DESCRIPTION).exists():
            return _finished(folder, stated, reporter)
        if settings.part[1] > 1 and settings.duplicates != "none":
            reporter.warn(f"--part {settings.part[0]}/{settings.part[1]}: duplicates are found within this part only, not across parts")
        job = _Job(tuple(sources), tokenizer, folder, settings, stated, strict=strict, reporter=reporter)
        try:
            return job.run(bad_share, workers)
        finally:
            job.progress.close()


def _stated(sources: Sequence[Source], tokenizer: Encoder, settings: EncodeSettings) -> dict[str, Any]:
    shared = {key: value for key, value in asdict(settings).items() if key != "part"}
    return {
        "format": FORMAT,
        "version": VERSION,
        "tokenizer": tokenizer.fingerprint,
        "settings": shared,
        "part": list(settings.part),
        "sources": [source.as_dict() for source in sources],
    }


def _finished(folder: Path, stated: dict[str, Any], reporter: Reporter) -> Account:
    found = read_description(folder)
    _require_same(folder, found, stated)
    require_sound(folder)
    _tidy(folder)
    reporter.line(f"{folder}: is encoded already; headers and sizes of its shards are right (all bytes: beichen data verify {folder})")
    return Account.from_dict(found["ledger"])


def _require_same(folder: Path, found: dict[str, Any], stated: dict[str, Any]) -> None:
    for key, value in stated.items():
        if found.get(key) != value:
            raise StorageError(f"{folder}: holds text that was encoded with other {key}", remedy="choose a new folder, or remove this one")


@dataclass
class _Job:
    """One pass, and where it stands."""

    sources: tuple[Source, ...]
    tokenizer: Encoder
    folder: Path
    settings: EncodeSettings
    stated: dict[str, Any]
    strict: bool
    reporter: Reporter
    progress: Progress = field(init=False)
    accounts: list[Account] = field(init=False)
    writers: dict[str, StoreWriter] = field(init=False)
    done: tuple[int, int] = (0, 0)  # files, blocks of the file after them
    shown: int = 0

    def __post_init__(self) -> None:
        others = [entry.name for entry in self.folder.iterdir() if entry.name not in (WORK_FOLDER, ".lock")]
        work = self.folder / WORK_FOLDER
        if others and not work.is_dir():
            raise StorageError(f"{self.folder}: holds other files than encoded text", remedy="choose a new folder, or empty this one")
        work.mkdir(exist_ok=True)
        self.progress = Progress(work / "progress.sqlite")
        state = self.progress.state()
        if state is None:
            self.accounts = [Account() for _ in self.sources]
        else:
            _require_same(self.folder, state["stated"], self.stated)
            self.accounts = [Account.from_dict(fields) for fields in state["accounts"]]
            self.done = tuple(state["done"])
            read = sum(account.read.items for account in self.accounts)
            self.reporter.line(f"{self.folder}: goes on after {read:,} documents")
        self.writers = {lane: self._writer(lane, state) for lane in self._lanes()}

    def _lanes(self) -> Iterator[str]:
        for source in self.sources:
            yield f"{source.name}/{TRAIN}"
            if self.settings.held_out_fraction:
                yield f"{source.name}/{HELD_OUT}"

    def _writer(self, lane: str, state: dict[str, Any] | None) -> StoreWriter:
        folder = self.folder / lane
        folder.mkdir(parents=True, exist_ok=True)
        return StoreWriter(
            folder, vocab_size=self.tokenizer.vocab_size, end_id=self.tokenizer.end_id,
            tokenizer_fingerprint=self.tokenizer.fingerprint, grades=COLUMNS if self.settings.grades else None,
            shard_tokens=self.settings.shard_tokens, state=None if state is None else state["writers"][lane],
        )  # fmt: skip

    def run(self, bad_share: float, workers: int | None) -> Account:
        save = getattr(self.tokenizer, "save", None)
        if save is not None:
            save(self.folder / TOKENIZER_FOLDER)
        total = sum(file.stat().st_size for source in self.sources for file in source.files)
        committed = time.monotonic()
        with self.reporter.track("encoding text", total=float(total), unit="B") as task:
            for files, blocks, block in encode_in_order(self._blocks(task), self.tokenizer, self._work(), workers, self.folder):
                if block is not None:
                    self._take(block)
                self.done = (files, blocks)
                if time.monotonic() - committed >= COMMIT_SECONDS:
                    self._commit()
                    committed = time.monotonic()
        self._commit()
        return self._finish(bad_share)

    def _work(self) -> BlockWork:
        table = None
        if self.settings.benchmarks:
            table = self.folder / WORK_FOLDER / "benchmarks.npz"
            benchmarks = read_benchmarks(self.settings.benchmarks)
            benchmarks.save(table)
            checked = benchmarks.items - benchmarks.unchecked
            self.reporter.line(f"benchmarks: {checked:,} items looked for, {benchmarks.unchecked:,} too short for that")
        return BlockWork(
            sources=self.sources, duplicates=self.settings.duplicates, benchmarks=table, grades=self.settings.grades,
            held_out_fraction=self.settings.held_out_fraction, on_bad="raise" if self.strict else "count",
        )  # fmt: skip

    def _blocks(self, task: Task) -> Iterator[tuple[int, int, Block | None]]:
        """(files behind it, its number in the file and one, block); ``None`` for a file that has been read to its end."""
        part, parts = self.settings.part
        on_bad: OnBad = "raise" if self.strict else "count"
        files = [(index, source, file) for index, source in enumerate(self.sources) for file in source.files]
        for place, (index, source, file) in enumerate(files):
            if place < self.done[0]:
                task.advance(file.stat().st_size)
                continue
            found = 0
            for count, block in enumerate(read_blocks(index, source, file, on_bad=on_bad, consumed=task.advance), start=1):
                found += len(block.items)
                if (place, count) > self.done and (place + count) % parts == part % parts:
                    yield place, count, block
            if not found:
                self.reporter.warn(f"{file}: no documents")
            yield place + 1, 0, None

    def _take(self, block: EncodedBlock) -> None:
        account = self.accounts[block.source]
        account.merge(block.account)
        for warning in block.warnings[: max(0, WARNINGS_SHOWN - self.shown)]:
            self.reporter.warn(warning)
        self.shown += len(block.warnings)
        keep = self._first_of_their_kind(block, account)
        ends = np.repeat(keep, block.lengths)
        held_out = np.repeat(block.held_out, block.lengths)
        for lane, chosen, ids in (
            (TRAIN, keep & ~block.held_out, ends & ~held_out),
            (HELD_OUT, keep & block.held_out, ends & held_out),
        ):
            if chosen.any():
                columns = {name: column[chosen] for name, column in block.columns.items()}
                writer = self.writers[f"{self.sources[block.source].name}/{lane}"]
                writer.add_joined(block.ids[ids], block.lengths[chosen], columns)
                account.used.add(int(columns["bytes"].sum()), int(chosen.sum()), int(block.lengths[chosen].sum()))

    def _first_of_their_kind(self, block: EncodedBlock, account: Account) -> np.ndarray:
        """Which documents were not there before; the others are dropped by reason. [documents] bool"""
        keep = np.ones(len(block.lengths), bool)
        sizes = block.columns["bytes"]

        def drop(reason: str, which: np.ndarray, seen: Callable[[], list[bool]]) -> None:
            gone = which[np.array(seen(), bool)] if len(which) else which
            keep[gone] = False
            if len(gone):
                account.drop(reason, int(sizes[gone].sum()), len(gone), int(block.lengths[gone].sum()))

        if block.keys is not None:
            keys = block.keys
            drop(SAME, np.arange(len(keep)), lambda: self.progress.seen_keys(keys))
        if block.signatures is not None:
            left = np.flatnonzero(keep)
            signatures = block.signatures[left]
            drop(LIKE, left, lambda: self.progress.seen_likes(signatures, self.settings.threshold))
        return keep

    def _commit(self) -> None:
        writers = {lane: writer.state() for lane, writer in self.writers.items()}
        accounts = [account.as_dict() for account in self.accounts]
        self.progress.commit({"stated": self.stated, "done": list(self.done), "writers": writers, "accounts": accounts})

    def _finish(self, bad_share: float) -> Account:
        ledger = Account()
        for account in self.accounts:
            account.check()
            ledger.merge(account)
        if ledger.refused > bad_share * ledger.read.items:
            raise DataError(
                f"{ledger.refused:,} of {ledger.read.items:,} records cannot be used, more than {bad_share:.1%}: {_reasons(ledger)}",
                remedy="correct the files and encode them into a new folder, or allow more with --bad-share",
            )
        for lane, writer in self.writers.items():
            number = [source.name for source in self.sources].index(lane.split("/")[0])
            writer.finish(account=self.accounts[number], inputs=self.stated["sources"][number], may_go_on=True)
        write_atomically(self.folder / LEDGER_FILE, "\n".join(ledger.as_table()) + "\n")
        description = {**self.stated, "ledger": ledger.as_dict()}
        write_atomically(self.folder / DESCRIPTION, json.dumps(description, ensure_ascii=False, indent=1) + "\n")
        self.progress.close()
        _tidy(self.folder)
        return ledger


def _tidy(folder: Path) -> None:
    """Removes what only an unfinished pass needs."""
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    for lane in folder.glob("*/*/"):
        remove_tables(lane)


def _reasons(account: Account) -> str:
    return ", ".join(f"{tally.items:,} {reason}" for reason, tally in sorted(account.dropped.items()))
