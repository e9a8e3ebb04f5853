"""``read_dialogues``: the dialogues of jsonl files, JSON arrays and parquet tables, one at a time.

The schema of each record is found by ``text.dialogues``; this module knows files only. Rule: a record that is no usable
dialogue is refused or counted under its reason, with file and line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from beichen.data.account import Account, BadInput, OnBad
from beichen.data.files import expand_paths
from beichen.data.records import read_records
from beichen.errors import DataError
from beichen.text.dialogues import read_dialogue
from beichen.text.messages import Dialogue
from beichen.util.progress import SILENT, Reporter


def read_dialogues(
    paths: Iterable[str | Path],
    *,
    on_bad: OnBad = "raise",
    account: Account | None = None,
    reporter: Reporter = SILENT,
    consumed: Callable[[int], None] | None = None,
) -> Iterator[Dialogue]:
    """Dialogues of all files in order; no dialogue at all is an error. ``account`` counts them in bytes of their records."""
    files = expand_paths(paths, formats=("jsonl", "json", "parquet"))
    account = Account(item="dialogues") if account is None else account
    return _dialogues(files, BadInput(on_bad, account, reporter), consumed)


def _dialogues(files: list[Path], bad: BadInput, consumed: Callable[[int], None] | None) -> Iterator[Dialogue]:
    total = 0
    for file in files:
        for record in read_records(file, bad, reporter=bad.reporter, consumed=consumed):
            bad.account.read.add(record.num_bytes)
            try:
                dialogue = read_dialogue(record.value, record.origin)
            except DataError as fault:
                bad.refuse("not a usable dialogue", record.num_bytes, fault)
                continue
            bad.account.used.add(record.num_bytes)
            total += 1
            yield dialogue
    if not total:
        raise DataError(f"{', '.join(str(file) for file in files[:3])}: no dialogues", remedy="give a file with one dialogue a line")
