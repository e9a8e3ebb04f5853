"""Which fetched files were compared with the SHA-256 that their hub states: each is read for that once, not at every load.

A mark is a small file under ``$XDG_CACHE_HOME/beichen/verified`` named by the digest; it names the size and time of the file that
it is about, so a file that changed since is compared anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from beichen.errors import StorageError
from beichen.util.files import sha256_of, write_atomically


def is_verified(path: Path, sha256: str) -> bool:
    """Whether this file, as it stands, was found to have this digest before."""
    with contextlib.suppress(OSError):
        return _mark(path, sha256).read_text(encoding="utf-8") == _state(path)
    return False


def verify(path: Path, sha256: str) -> bool:
    """Whether the file has this digest; read only if it was not before."""
    if is_verified(path, sha256):
        return True
    if sha256_of(path) != sha256:
        return False
    note_verified(path, sha256)
    return True


def note_verified(path: Path, sha256: str) -> None:
    """Remember that the file has this digest; where nothing can be written, it is read again next time."""
    with contextlib.suppress(StorageError):
        write_atomically(_mark(path, sha256), _state(path))


def _mark(path: Path, sha256: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return cache / "beichen" / "verified" / f"{sha256}-{place}"


def _state(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}\n"
