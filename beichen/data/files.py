"""Paths to files: what the user named becomes a list of files in a fixed order, each with a known format.

In: paths, folders, glob patterns. Out: existing files; folders and patterns in sorted order, so that the same
arguments give the same documents in the same order on every machine.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from beichen.data.encoded_text import is_encoded_text
from beichen.errors import DataError, nearest

FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".txt": "text", ".text": "text", ".parquet": "parquet",
}  # fmt: skip
TABLES = {"parquet": "beichen.data.parquet:read_parquet"}  # formats whose rows are records, and who reads them
RECORD_FORMATS = tuple(dict.fromkeys(name for name in FORMATS.values() if name != "text"))
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def format_of(path: Path) -> str | None:
    """One of ``FORMATS`` by the name without ``.gz``/``.zst``; ``None`` for any other name."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return FORMATS.get(name.suffix.lower())


def stem_of(name: str) -> str:
    """A file's name without the suffixes that say what it is."""
    while suffix := next((one for one in (*FORMATS, *COMPRESSIONS) if name.endswith(one)), None):
        name = name.removesuffix(suffix)
    return name


def expand_paths(paths: Iterable[str | Path], *, formats: Iterable[str] = tuple(FORMATS.values())) -> list[Path]:
    """The files behind the given names: a file as it is, a folder with all readable files below it, a pattern with its matches."""
    accepted = set(formats)
    files: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir() and is_encoded_text(path):
            raise DataError(f"{path}: holds encoded text, not files to read", remedy="to train on it, give it as data.encoded")
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file() and format_of(file) in accepted)
            if not found:
                raise DataError(f"{path}: no file with a readable name in this folder", remedy=f"readable are {_known_names(accepted)}")
        elif path.exists():
            found = [path]
        elif glob.has_magic(str(path)):
            found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
            if not found:
                raise DataError(f"{path}: no file matches this pattern", remedy="check the pattern; ** stands for any number of folders")
        else:
            siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(
                f"{path}: no such file{nearest(path.name, siblings)}", remedy="check the path; it counts from the current folder"
            )
        for file in found:
            if format_of(file) not in accepted:
                raise DataError(f"{file}: the name does not say which format this is", remedy=f"readable are {_known_names(accepted)}")
        files += found
    if not files:
        raise DataError("no input files were given", remedy="name at least one file, folder or pattern")
    return files


def _known_names(accepted: set[str]) -> str:
    names = ", ".join(suffix for suffix, format_name in FORMATS.items() if format_name in accepted)
    return f"{names}, each also with .gz or .zst behind it"
