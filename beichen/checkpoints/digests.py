"""SHA-256 of every file of a folder that we wrote, and the check of them: safetensors itself does not notice a flipped bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from beichen.checkpoints.reading import read_json
from beichen.errors import CheckpointError
from beichen.util.files import sha256_of

DIGESTS = "digests.json"
VERSION = 1


def write_digests(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Note the digest of every file in ``folder``; ``known`` holds those that were taken while writing."""
    known = known or {}
    files = {
        path.name: {"sha256": known.get(path.name) or sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != DIGESTS
    }
    table = {"version": VERSION, "written_by": "beichen", "files": files}
    (folder / DIGESTS).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def verify_digests(folder: Path | str, *, contents: bool = True) -> list[str]:
    """The faults of a folder, one sentence each, empty when all is as written; ``contents`` False compares sizes only."""
    folder = Path(folder)
    path = folder / DIGESTS
    if not path.exists():
        raise CheckpointError(
            f"{folder}: no {DIGESTS}, so there is nothing to compare with", remedy="only folders written by Beichen carry one"
        )
    table = read_json(path)
    if table.get("version") != VERSION or not isinstance(table.get("files"), dict):
        raise CheckpointError(f"{path}: not a table of digests of version {VERSION}", remedy="it was written by another version of Beichen")
    faults = []
    for name, noted in table["files"].items():
        file = folder / name
        if not file.is_file():
            faults.append(f"{name} is missing")
        elif file.stat().st_size != noted["bytes"]:
            faults.append(f"{name} has {file.stat().st_size} bytes, {noted['bytes']} were written")
        elif contents and sha256_of(file) != noted["sha256"]:
            faults.append(f"{name} differs from what was written (SHA-256)")
    return faults
