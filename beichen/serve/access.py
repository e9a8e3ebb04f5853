"""Who may ask: API keys, one a line of a file; an empty set lets everybody in."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from beichen.errors import SettingsError


class Keys:
    """Keys as digests: they are compared in constant time, never printed, and told apart by the first letters of their digest."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, header: str | None) -> str | None:
        """Whose request it is, by its ``Authorization`` header; None: it may not come in."""
        if not self._digests:
            return ""
        scheme, _, key = (header or "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        known = [hmac.compare_digest(given, digest) for digest in self._digests]  # all of them, whichever fits
        return given.hex()[:12] if any(known) and scheme.lower() == "bearer" else None


def read_keys(path: Path) -> list[str]:
    """Keys from a file, one a line; empty lines and those that begin with # are skipped. Raises SettingsError where there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8"
        raise SettingsError(f"{path}: cannot be read as a list of API keys: {why}", remedy="write one key a line") from fault
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise SettingsError(f"{path}: holds no API key", remedy="write one key a line, or leave --api-key-file out")
    return keys
