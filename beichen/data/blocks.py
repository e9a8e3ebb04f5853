"""Files to blocks: runs of lines, records or documents of about a megabyte, which processes can work on apart from each other.

In: a source's file. Out: its ``Block``s in order; lines are cut, not parsed. Rule: the blocks follow from the file alone, so that a
resumed pass, another machine or another number of processes meets the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beichen.data.account import Account, BadInput, OnBad
from beichen.data.files import format_of
from beichen.data.readers import find_reader
from beichen.data.records import Record, holds_lines, parse_lines, read_records
from beichen.data.source_list import Source
from beichen.data.sources import Document, counted, documents_of_records, read_text_file
from beichen.data.streams import open_bytes, read_lines
from beichen.util.progress import SilentReporter

BLOCK_BYTES = 1 << 20
BLOCK_ITEMS = 4096


@dataclass
class Block:
    """Items of one file that stand side by side, and what was counted and complained of while they were cut."""

    source: int
    file: Path
    items: list[Any] = field(default_factory=list)  # lines, ``Record``s or ``Document``s
    account: Account = field(default_factory=Account)
    warnings: list[str] = field(default_factory=list)


class Complaints(SilentReporter):
    """Keeps warnings, to be shown in the order of the blocks."""

    def __init__(self, warnings: list[str]) -> None:
        self.warnings = warnings

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def read_blocks(
    number: int, source: Source, file: Path, *, on_bad: OnBad, consumed: Callable[[int], None] | None = None
) -> Iterator[Block]:
    """The blocks of one file; a file without any item gives one empty block."""
    block = Block(number, file)
    complaints = Complaints(block.warnings)
    bad = BadInput(on_bad, block.account, complaints)
    size = 0
    for item, item_size in _items(source, file, bad, complaints, consumed):
        block.items.append(item)
        size += item_size
        if size >= BLOCK_BYTES or len(block.items) == BLOCK_ITEMS:
            yield block
            block, size = Block(number, file), 0
            bad.account, complaints.warnings = block.account, block.warnings
    if block.items or block.account.read.items or block.warnings:
        yield block


def _items(
    source: Source, file: Path, bad: BadInput, complaints: Complaints, consumed: Callable[[int], None] | None
) -> Iterator[tuple[Any, int]]:
    """What the file is made of, and the size of each."""
    reader = find_reader(source.reader, source.text_key)
    if format_of(file) == "text":
        for document in read_text_file(file, source.text_unit or reader.text_unit, bad, encoding=source.encoding, consumed=consumed):
            yield document, len(document.text)
    elif holds_lines(file, source.encoding):
        with open_bytes(file, encoding=source.encoding, reporter=complaints, consumed=consumed) as stream:
            for line in read_lines(stream, file):
                yield line, len(line[2])
    else:
        options: dict[str, Any] = {"encoding": source.encoding, "reporter": complaints, "consumed": consumed}
        for record in read_records(file, bad, columns=reader.columns, optional_columns=("id",), **options):
            yield record, record.num_bytes


def documents_of_block(block: Block, source: Source, on_bad: OnBad) -> Iterator[Document]:
    """The documents that a block holds, counted in its account; blank and bad ones are dropped there."""
    bad = BadInput(on_bad, block.account, Complaints(block.warnings))
    items = block.items
    if items and isinstance(items[0], Document):
        documents: Iterator[Document] = iter(items)
    else:
        records = items if items and isinstance(items[0], Record) else parse_lines(items, block.file, bad)
        documents = documents_of_records(records, find_reader(source.reader, source.text_key), bad)
    return counted(documents, block.account)
