"""``read_dialogues`` and ``read_preferences``: the samples of jsonl files, JSON arrays and parquet tables, one at a time.

The schema of each record is found by ``text``; this module knows files only. Rules: a record that is no usable sample is refused or
counted under its reason, with file and line; a file holds one schema unless the settings say otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

from beichen.data.account import WARNINGS_SHOWN, Account, BadInput, OnBad
from beichen.data.dialogue_settings import DEFAULT_SETTINGS, DialogueSettings
from beichen.data.files import RECORD_FORMATS, expand_paths, format_of
from beichen.data.records import Record, read_records
from beichen.data.streams import open_bytes
from beichen.errors import DataError
from beichen.text.dialogues import preference_keys, read_dialogue, schema_of
from beichen.text.messages import Dialogue, Preference, RatedDialogue
from beichen.text.preferences import chosen_dialogue, read_preference
from beichen.util.progress import SILENT, Reporter

MAX_OBJECT_BYTES = 64 << 20  # of a .json file that is one object
Sample = TypeVar("Sample", covariant=True)


class Reading(TypedDict, total=False):
    """How files are read: what to do with bad records, where they are counted, how many are named, who is told of bytes taken from disk."""

    on_bad: OnBad
    account: Account
    reporter: Reporter
    show: int
    consumed: Callable[[int], None]


class _Reader(Protocol[Sample]):
    def __call__(self, record: Mapping[str, Any], origin: str) -> Sample: ...


def read_dialogues(
    paths: Iterable[str | Path], *, settings: DialogueSettings = DEFAULT_SETTINGS, **how: Unpack[Reading]
) -> Iterator[Dialogue]:
    """Dialogues of all files in order; no dialogue at all is an error. ``account`` counts them in bytes of their records."""

    def read(record: Mapping[str, Any], origin: str) -> Dialogue:
        if settings.preferences == "chosen" and preference_keys(record):
            return chosen_dialogue(read_preference(record, origin, placeholders=placeholders))
        return read_dialogue(record, origin, placeholders=placeholders)

    placeholders = settings.filled
    return _samples(_files(paths), read, "dialogue", settings, how)


def read_preferences(
    paths: Iterable[str | Path], *, settings: DialogueSettings = DEFAULT_SETTINGS, **how: Unpack[Reading]
) -> Iterator[Preference | RatedDialogue]:
    """Preference pairs and rated dialogues of all files in order; none at all is an error."""

    def read(record: Mapping[str, Any], origin: str) -> Preference | RatedDialogue:
        return read_preference(record, origin, placeholders=placeholders)

    placeholders = settings.filled
    return _samples(_files(paths), read, "preference", settings, how)


def read_samples(
    paths: Iterable[str | Path], *, settings: DialogueSettings = DEFAULT_SETTINGS, **how: Unpack[Reading]
) -> Iterator[Dialogue | Preference | RatedDialogue]:
    """Whatever the files hold, each record as what it is."""

    def read(record: Mapping[str, Any], origin: str) -> Dialogue | Preference | RatedDialogue:
        if preference_keys(record):
            return read_preference(record, origin, placeholders=placeholders)
        return read_dialogue(record, origin, placeholders=placeholders)

    placeholders = settings.filled
    return _samples(_files(paths), read, "sample", settings, how)


def _files(paths: Iterable[str | Path]) -> list[Path]:
    paths = list(paths)
    for path in map(Path, paths):
        if path.is_file() and format_of(path) == "text":
            raise DataError(f"{path}: plain text for pretraining, not dialogues", remedy="give it as corpus, not as dialogues")
    return expand_paths(paths, formats=RECORD_FORMATS)


def _samples(files: list[Path], read: _Reader[Sample], kind: str, settings: DialogueSettings, how: Reading) -> Iterator[Sample]:
    account = how.get("account") or Account(item=f"{kind}s")
    bad = BadInput(how.get("on_bad", "raise"), account, how.get("reporter", SILENT), how.get("show", WARNINGS_SHOWN))
    total, refused = 0, None
    for file in files:
        first: tuple[str, str] | None = None  # schema and place of the file's first sample
        for record in _records(file, bad, how.get("consumed")):
            bad.account.read.add(record.num_bytes)
            try:
                sample = read(record.value, record.origin)
                schema = first[0] if settings.mixed_schemas and first else _schema(record)
                if first is None:
                    first = schema, record.origin
                elif schema != first[0]:
                    raise DataError(
                        f"{record.origin}: schema '{schema}', but {first[1]} has schema '{first[0]}'",
                        remedy="keep one schema in a file, or allow several (dialogues.mixed_schemas true)",
                    )
            except DataError as fault:
                refused = refused or fault
                bad.refuse(f"not a usable {kind}", record.num_bytes, fault)
                continue
            bad.account.used.add(record.num_bytes)
            total += 1
            yield sample
    if not total:
        many = account.read.items
        found = "its only record was refused" if many == 1 else f"all {many:,} records were refused, the first"
        why = "" if refused is None else f"; {found}: {refused.args[0]}"
        remedy = f"give a file with one {kind} a line" if refused is None else refused.remedy
        raise DataError(f"{', '.join(str(file) for file in files[:3])}: no {kind}s{why}", remedy=remedy)


def _schema(record: Record) -> str:
    return "preferences" if preference_keys(record.value) else schema_of(record.value, record.origin)


def _records(file: Path, bad: BadInput, consumed: Callable[[int], None] | None) -> Iterator[Record]:
    whole = _single_object(file) if format_of(file) == "json" else None
    if whole is None:
        yield from read_records(file, bad, reporter=bad.reporter, consumed=consumed)
    else:
        yield Record(whole, str(file), 1, file.stat().st_size)


def _single_object(file: Path) -> dict[str, Any] | None:
    """The object that a .json file is, where it is one over several lines: an index of data sets, a mixture, a single sample."""
    with open_bytes(file) as stream:
        content = stream.readline(MAX_OBJECT_BYTES)
        if not content.lstrip().startswith(b"{") or content.rstrip().endswith(b"}"):
            return None
        content += stream.read(MAX_OBJECT_BYTES)
    try:
        value = json.loads(content)
    except ValueError:
        return None  # the reader of lines says where and why
    return value if isinstance(value, dict) else None
