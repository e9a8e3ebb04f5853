"""``TokenStore``: encoded documents in a folder of shards, read as one; ``StoreWriter`` makes one.

In: ids of documents. Out: ``shard-00000.bin`` and so on (see ``shards``), and ``store.json`` (which tokenizer, counts, the shards with
their checksums, the account of the pass). Read as one stream, the end token behind one shard is the one before the next.

Rule: a store of another tokenizer, of another version, cut short or with a changed byte is refused by name.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from beichen.data.account import Account
from beichen.data.shards import REMEDY, VERSION, Shard, ShardWriter, check_tokenizer, remove_tables
from beichen.data.versioned_file import read_versioned
from beichen.errors import DataError
from beichen.util.files import write_atomically

FORMAT = "beichen token store"
METADATA_FILE = "store.json"
SHARD_TOKENS = 1 << 27  # a shard is closed when it holds so many: 256 MiB of 16-bit, 512 MiB of 32-bit ids


class TokenStore:
    """Documents as ids, in the order in which they were written. Each document's ids end with ``end_id``."""

    def __init__(self, directory: str | Path, *, tokenizer_fingerprint: str | None = None, verify: bool = True) -> None:
        """``tokenizer_fingerprint``: refuse a store of any other tokenizer. ``verify``: read all bytes once and compare checksums."""
        self.directory = Path(directory)
        self.metadata = read_metadata(self.directory)
        check_tokenizer(self.directory, self.metadata["tokenizer"], tokenizer_fingerprint)
        self.end_id: int = self.metadata["end_id"]
        self.vocab_size: int = self.metadata["vocab_size"]
        self.num_documents: int = self.metadata["documents"]
        self.num_tokens: int = self.metadata["tokens"]  # end tokens included
        self.num_bytes: int = self.metadata["bytes"]  # of the UTF-8 texts
        self.account = Account.from_dict(self.metadata["account"])
        self.shards = [open_shard(self.directory, self.metadata, name, verify=verify) for name in self.metadata["shards"]]
        self.tokens = self._joined_tokens()
        before = np.cumsum([0, *(shard.num_tokens for shard in self.shards)])
        ends = [shard.offsets[1:] + base for shard, base in zip(self.shards, before, strict=False)]
        self.offsets = self.shards[0].offsets if len(self.shards) == 1 else np.concatenate([np.ones(1, np.int64), *ends])
        self.document_bytes = self.column("bytes")

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, its end token included. [documents] int64"""
        return np.diff(self.offsets)

    def document(self, index: int) -> np.ndarray:
        """Ids of one document, the end token last."""
        return self.tokens[np.arange(self.offsets[index], self.offsets[index + 1])]

    def column(self, name: str) -> np.ndarray:
        """A fact about each document: ``bytes``, and ``quality`` and ``difficulty`` where it was graded. [documents]"""
        if name not in self.metadata["columns"]:
            raise DataError(f"{self.directory}: holds no '{name}' of documents", remedy="encode with grades: beichen data encode --grades")
        parts = [shard.columns[name] for shard in self.shards]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, self.metadata["columns"][name]), *parts])

    def _joined_tokens(self) -> np.ndarray:
        if not self.shards:
            return np.array([self.end_id], self.metadata["dtype"])
        return self.shards[0].tokens if len(self.shards) == 1 else cast(np.ndarray, _Joined(self.shards))


class _Joined:
    """The ids of several shards as one stream, for reading by arrays of places."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._parts = [shard.tokens for shard in shards]
        self._begins = np.cumsum([0, *(shard.num_tokens for shard in shards)])[:-1]
        self.dtype = self._parts[0].dtype

    def __len__(self) -> int:
        return int(self._begins[-1]) + len(self._parts[-1])

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        found = np.empty(len(places), self.dtype)
        owner = np.searchsorted(self._begins, places, side="right") - 1
        for number in np.unique(owner):
            here = owner == number
            found[here] = self._parts[number][places[here] - self._begins[number]]
        return found


def read_metadata(directory: Path) -> dict[str, Any]:
    """``store.json`` of a store; refused when it is none or of another version."""
    return read_versioned(directory / METADATA_FILE, file_format=FORMAT, version=VERSION)


def open_shard(directory: Path, metadata: Mapping[str, Any], name: str, *, verify: bool = True) -> Shard:
    """One of the shards that ``store.json`` lists; refused by name when it is not what that says. ``verify``: to the byte."""
    path = directory / name
    if not path.is_file():
        raise DataError(f"{path}: missing, though {METADATA_FILE} lists it", remedy=REMEDY)
    shard = Shard(path, tokenizer_fingerprint=metadata["tokenizer"], verify=verify)
    if shard.header["sha256"] != metadata["shards"][name]:
        raise DataError(f"{path}: holds other documents than {METADATA_FILE} says", remedy=REMEDY)
    return shard


class StoreWriter:
    """Writes a store into an existing folder, shard after shard; ``store.json`` comes last, so a folder without it is none."""

    def __init__(
        self,
        directory: Path,
        *,
        vocab_size: int,
        end_id: int,
        tokenizer_fingerprint: str,
        grades: Mapping[str, str] | None = None,
        shard_tokens: int = SHARD_TOKENS,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """``grades``: further columns and their types. ``state``: what an earlier writer returned, to go on from there."""
        self._directory, self._shard_tokens, self._end_id = directory, shard_tokens, end_id
        self.dtype = "<u2" if vocab_size < 1 << 16 else "<u4"
        self._header: dict[str, Any] = {
            "tokenizer": tokenizer_fingerprint,
            "vocab_size": vocab_size,
            "end_id": end_id,
            "columns": {"bytes": "<i8", **(grades or {})},
        }
        self.num_documents = self.num_tokens = self.num_bytes = 0
        self._shards: dict[str, str] = {}
        self._open: ShardWriter | None = None
        if state is not None:
            self.num_documents, self.num_tokens, self.num_bytes = state["documents"], state["tokens"], state["bytes"]
            self._shards = dict(state["shards"])
            if state["open"] is not None:
                self._open = self._writer(state["open"])

    def add(self, documents: Sequence[Sequence[int]], num_bytes: Sequence[int]) -> int:
        """Appends documents (ids without the end token) and the UTF-8 size of each; returns the tokens written, ends included."""
        ids, lengths = join_documents(documents, self._end_id)
        self.add_joined(ids, lengths, {"bytes": np.asarray(num_bytes, "<i8")})
        return len(ids)

    def add_joined(self, ids: np.ndarray, lengths: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Documents end to end as ``join_documents`` makes them, and the columns."""
        if not len(lengths):
            return
        largest = int(ids.max())
        if not 0 <= int(ids.min()) <= largest < self._header["vocab_size"]:
            raise DataError(
                f"the tokenizer made id {largest}, its vocabulary ends at {self._header['vocab_size'] - 1}",
                remedy="the tokenizer's files are broken",
            )
        if self._open is None:
            self._open = self._writer(None)
        self._open.add(ids, lengths, columns)
        self.num_documents += len(lengths)
        self.num_tokens += len(ids)
        self.num_bytes += int(columns["bytes"].sum())
        if self._open.num_tokens >= self._shard_tokens:
            self._close()

    def state(self) -> dict[str, Any]:
        """Makes durable what was added; a writer that is given this goes on behind it, whatever was added later."""
        return {
            "documents": self.num_documents,
            "tokens": self.num_tokens,
            "bytes": self.num_bytes,
            "shards": dict(self._shards),
            "open": None if self._open is None else self._open.state(),
        }

    def finish(self, *, account: Account, inputs: Mapping[str, Any], may_go_on: bool = False) -> None:
        """Closes the files and writes the description. ``inputs``: what the store was made from, to know whether it is still current.
        ``may_go_on``: keeps what a writer with an earlier state would need (``shards.remove_tables`` removes it)."""
        if self._open is not None:
            self._close()
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "dtype": self.dtype,
            **self._header,
            "documents": self.num_documents,
            "tokens": self.num_tokens,
            "bytes": self.num_bytes,
            "account": account.as_dict(),
            "inputs": dict(inputs),
            "shards": self._shards,
        }
        write_atomically(self._directory / METADATA_FILE, json.dumps(metadata, ensure_ascii=False, indent=1) + "\n")
        if not may_go_on:
            remove_tables(self._directory)

    def _writer(self, state: Mapping[str, int] | None) -> ShardWriter:
        path = self._directory / f"shard-{len(self._shards):05d}.bin"
        return ShardWriter(path, dtype=self.dtype, end_id=self._end_id, header=self._header, state=state)

    def _close(self) -> None:
        assert self._open is not None
        self._shards[self._open.path.name] = self._open.finish()["sha256"]
        self._open = None


def join_documents(documents: Sequence[Sequence[int]], end_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all documents, an end token behind each, and how many each has, the end token included."""
    lengths = np.fromiter((len(ids) + 1 for ids in documents), np.int64, len(documents))
    parts = itertools.chain.from_iterable(part for ids in documents for part in (ids, (end_id,)))
    return np.fromiter(parts, np.int64, int(lengths.sum())), lengths
