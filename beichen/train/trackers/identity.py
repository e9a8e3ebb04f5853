"""How services know a run again: by its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

PROJECT = "beichen"


def run_id(folder: Path) -> str:
    """The same for the same folder on this machine: 16 hexadecimal digits."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
