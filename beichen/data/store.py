"""``TokenStore``: encoded documents in a folder, memory-mapped; ``StoreWriter`` makes one.

In: ids of documents. Out: ``tokens.bin`` (the end token, then for each document its ids and the end token), ``offsets.bin``
(where each document starts, and the end of the last), ``document_bytes.bin`` (UTF-8 size of each text) and ``store.json`` (which
tokenizer, counts, checksums, the account of the pass). Because an end token stands before every document, the input of any
span of tokens is the same span one place to the left: this is the convention of the rows (see ``packing``).

Rule: a store of another tokenizer, of another version, cut short or with a changed byte is refused by name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from beichen.data.account import Account
from beichen.errors import DataError
from beichen.util.files import sha256_of

FORMAT = "beichen token store"
VERSION = 1
METADATA_FILE = "store.json"
_TOKENS, _OFFSETS, _DOCUMENT_BYTES = "tokens.bin", "offsets.bin", "document_bytes.bin"
_REMEDY = "encode the texts again into this folder"


class TokenStore:
    """Documents as ids, in the order in which they were written. Each document's ids end with ``end_id``."""

    def __init__(self, directory: str | Path, *, tokenizer_fingerprint: str | None = None, verify: bool = True) -> None:
        """``tokenizer_fingerprint``: refuse a store of any other tokenizer. ``verify``: read all bytes once and compare checksums."""
        self.directory = Path(directory)
        self.metadata = read_metadata(self.directory)
        if tokenizer_fingerprint is not None and self.metadata["tokenizer"] != tokenizer_fingerprint:
            raise DataError(
                f"{self.directory}: was encoded by tokenizer {self.metadata['tokenizer'][:12]}, not by {tokenizer_fingerprint[:12]}",
                remedy="encode the texts again, or use the tokenizer that the store was made with",
            )
        self.end_id: int = self.metadata["end_id"]
        self.vocab_size: int = self.metadata["vocab_size"]
        self.num_documents: int = self.metadata["documents"]
        self.num_tokens: int = self.metadata["tokens"]  # end tokens included
        self.num_bytes: int = self.metadata["bytes"]  # of the UTF-8 texts
        self.account = Account.from_dict(self.metadata["account"])
        self.tokens = self._map(_TOKENS, self.metadata["dtype"], self.num_tokens + 1, verify)
        self.offsets = self._map(_OFFSETS, "<i8", self.num_documents + 1, verify)
        self.document_bytes = self._map(_DOCUMENT_BYTES, "<i8", self.num_documents, verify)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, its end token included. [documents] int64"""
        return np.diff(self.offsets)

    def document(self, index: int) -> np.ndarray:
        """Ids of one document, the end token last."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def _map(self, name: str, dtype: str, count: int, verify: bool) -> np.ndarray:
        path = self.directory / name
        want = count * np.dtype(dtype).itemsize
        if not path.is_file() or path.stat().st_size != want:
            have = f"{path.stat().st_size} bytes" if path.is_file() else "missing"
            raise DataError(f"{path}: {have}, {METADATA_FILE} asks for {want} bytes", remedy=_REMEDY)
        if verify and sha256_of(path) != self.metadata["sha256"][name]:
            raise DataError(f"{path}: content differs from the checksum in {METADATA_FILE}: the file is damaged", remedy=_REMEDY)
        return np.memmap(path, dtype=dtype, mode="r", shape=(count,)) if count else np.zeros(0, dtype)


def read_metadata(directory: Path) -> dict[str, Any]:
    """``store.json`` of a store; refused when it is none or of another version."""
    path = directory / METADATA_FILE
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no readable description of encoded text ({error})", remedy=_REMEDY) from error
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        found = f"{metadata.get('format')!r} version {metadata.get('version')!r}"
        raise DataError(f"{path}: is {found}, expected {FORMAT!r} version {VERSION}", remedy=_REMEDY)
    return dict(metadata)


class StoreWriter:
    """Writes a store into an existing empty folder; whoever calls it makes the folder appear whole or not at all."""

    def __init__(self, directory: Path, *, vocab_size: int, end_id: int, tokenizer_fingerprint: str) -> None:
        self._directory = directory
        self._vocab_size, self._end_id, self._fingerprint = vocab_size, end_id, tokenizer_fingerprint
        self.dtype = "<u2" if vocab_size < 1 << 16 else "<u4"
        self.num_documents = self.num_tokens = self.num_bytes = 0
        self._files = {name: _HashedFile(directory / name) for name in (_TOKENS, _OFFSETS, _DOCUMENT_BYTES)}
        self._files[_TOKENS].write(np.array([end_id], self.dtype))
        self._files[_OFFSETS].write(np.array([1], "<i8"))

    def add(self, documents: Sequence[Sequence[int]], num_bytes: Sequence[int]) -> int:
        """Appends documents (ids without the end token) and the UTF-8 size of each; returns the tokens written, ends included."""
        lengths = np.fromiter((len(ids) + 1 for ids in documents), np.int64, len(documents))
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(documents) else 0
        end = (self._end_id,)
        flat = np.fromiter(itertools.chain.from_iterable(part for ids in documents for part in (ids, end)), np.int64, total)
        if total and not 0 <= flat.min() <= flat.max() < self._vocab_size:
            raise DataError(
                f"the tokenizer made id {flat.max()}, its vocabulary ends at {self._vocab_size - 1}",
                remedy="the tokenizer's files are broken",
            )
        self._files[_TOKENS].write(flat.astype(self.dtype))
        self._files[_OFFSETS].write((1 + self.num_tokens + ends).astype("<i8"))
        self._files[_DOCUMENT_BYTES].write(np.asarray(num_bytes, "<i8"))
        self.num_documents += len(documents)
        self.num_tokens += total
        self.num_bytes += sum(num_bytes)
        return total

    def finish(self, *, account: Account, inputs: Mapping[str, Any]) -> None:
        """Closes the files and writes the description. ``inputs``: what the store was made from, to know whether it is still current."""
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "dtype": self.dtype,
            "tokenizer": self._fingerprint,
            "vocab_size": self._vocab_size,
            "end_id": self._end_id,
            "documents": self.num_documents,
            "tokens": self.num_tokens,
            "bytes": self.num_bytes,
            "account": account.as_dict(),
            "inputs": dict(inputs),
            "sha256": {name: file.close() for name, file in self._files.items()},
        }
        (self._directory / METADATA_FILE).write_text(json.dumps(metadata, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


class _HashedFile:
    """A file being written, and the SHA-256 of what was written."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._hash = hashlib.sha256()

    def write(self, values: np.ndarray) -> None:
        data = values.tobytes()
        self._file.write(data)
        self._hash.update(data)

    def close(self) -> str:
        self._file.close()
        return self._hash.hexdigest()
