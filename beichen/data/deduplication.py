"""``Progress``: how far a long pass has come, and which texts it has seen, in one SQLite file that survives a kill at any instant.

In: keys and signatures of documents, block by block (see ``minhash``). Out: which of them stood there before. The first of like documents
is kept, and only kept ones are remembered. Keys and state are committed together, so that a resumed pass decides as an
uninterrupted one would. Rule: memory is bounded by SQLite's cache, whatever was seen; disk by 8 bytes times two for a key (20 keys
and a signature of 480 bytes for a document where near duplicates are looked for).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beichen.data.minhash import PERMUTATIONS, band_keys

CACHE_KIB = 96 << 10
SAME, LIKE = "duplicate", "near duplicate"  # why a document is dropped
_ASKED_AT_ONCE = 20_000  # SQLite takes 32,766 values in one question


class Progress:
    """One file. ``commit`` makes everything so far durable; what comes after the last one is undone by a kill."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        for line in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=NORMAL",
            f"PRAGMA cache_size=-{CACHE_KIB}",
            "CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), value TEXT)",
            "CREATE TABLE IF NOT EXISTS keys (key INTEGER PRIMARY KEY)",
            "CREATE TABLE IF NOT EXISTS bands (key INTEGER PRIMARY KEY, document INTEGER)",
            "CREATE TABLE IF NOT EXISTS signatures (document INTEGER PRIMARY KEY, signature BLOB)",
            "BEGIN",
        ):
            self._base.execute(line)
        self._next = 1 + (self._base.execute("SELECT max(document) FROM signatures").fetchone()[0] or 0)

    def state(self) -> dict[str, Any] | None:
        """What was committed last."""
        found = self._base.execute("SELECT value FROM state").fetchone()
        return None if found is None else dict(json.loads(found[0]))

    def commit(self, state: dict[str, Any]) -> None:
        self._base.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (json.dumps(state),))
        self._base.execute("COMMIT")
        self._base.execute("BEGIN")

    def close(self) -> None:
        self._base.close()

    def seen_keys(self, keys: Sequence[int]) -> list[bool]:
        """For each document whether one before it had its key; the others are remembered."""
        known = {key for (key,) in self._rows("SELECT key FROM keys WHERE key IN", keys)}
        seen = []
        for key in keys:
            seen.append(key in known)
            known.add(key)
        new = [(key,) for key, old in zip(keys, seen, strict=True) if not old]
        self._base.executemany("INSERT INTO keys VALUES (?)", new)
        return seen

    def seen_likes(self, signatures: np.ndarray, threshold: float) -> list[bool]:
        """For each document whether one before it shares so much of its signature; the others are remembered."""
        bands = band_keys(signatures).tolist()
        owners = dict(self._rows("SELECT key, document FROM bands WHERE key IN", [key for row in bands for key in row]))
        known = {
            document: np.frombuffer(blob, "<u4")
            for document, blob in self._rows("SELECT document, signature FROM signatures WHERE document IN", set(owners.values()))
        }
        seen, new_bands, new_signatures = [], [], []
        for mine, keys in zip(signatures, bands, strict=True):
            met = {owners[key] for key in keys if key in owners}
            like = any(np.count_nonzero(known[other] == mine) >= threshold * PERMUTATIONS for other in met)
            seen.append(like)
            if not like:
                known[self._next] = mine
                new_signatures.append((self._next, mine.astype("<u4").tobytes()))
                fresh = [key for key in dict.fromkeys(keys) if key not in owners]
                new_bands += [(key, self._next) for key in fresh]
                owners.update(dict.fromkeys(fresh, self._next))
                self._next += 1
        self._base.executemany("INSERT INTO bands VALUES (?, ?)", new_bands)
        self._base.executemany("INSERT INTO signatures VALUES (?, ?)", new_signatures)
        return seen

    def _rows(self, question: str, values: Iterable[int]) -> Iterable[tuple[Any, ...]]:
        asked = list(values)
        for begin in range(0, len(asked), _ASKED_AT_ONCE):
            part = asked[begin : begin + _ASKED_AT_ONCE]
            yield from self._base.execute(f"{question} ({','.join('?' * len(part))})", part)
