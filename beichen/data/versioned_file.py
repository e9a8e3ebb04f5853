"""A JSON object that says what a folder of encoded text holds, with its own format and version; it is written last, whole.

In: the file. Out: the object. Rule: one that is missing, is no such object, or has another format or version is refused by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from beichen.data.shards import REMEDY
from beichen.errors import DataError


def read_versioned(path: Path, *, file_format: str, version: int, if_missing: str = REMEDY) -> dict[str, Any]:
    """if_missing: the remedy where there is no such file. Raises DataError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        remedy = REMEDY if path.exists() else if_missing
        raise DataError(f"{path}: no readable description of encoded text ({error})", remedy=remedy) from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: no readable description of encoded text (it holds no object)", remedy=REMEDY)
    if (found.get("format"), found.get("version")) != (file_format, version):
        told = f"{found.get('format')!r} version {found.get('version')!r}"
        raise DataError(f"{path}: is {told}, expected {file_format!r} version {version}", remedy=REMEDY)
    return found
