"""One file of encoded documents: a header, the ids, and what is known of each document; written once, then memory-mapped.

    bytes 0 to 4095   the magic word, the version, JSON (dtype, tokenizer, counts, columns, SHA-256 of the rest), the header's own SHA-256
    then              the ids: an end token, then for each document its ids and an end token
    then              ``offsets`` (where each document starts, and the end of the last), and one column for each fact about documents

Because an end token stands before every document, the input of any span of ids is the same span one place to the left: the
convention of the rows (see ``packing``). Rule: a file follows from its documents alone, so that two runs write the same bytes; one of
another version or tokenizer, cut short or with a changed bit is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from beichen.errors import DataError

MAGIC = b"BEICHEN\n"
VERSION = 2
HEADER_BYTES = 4096
REMEDY = "remove the folder of encoded text and encode again"
_DIGEST_BYTES = 32
_PARTIAL = ".partial"


class Shard:
    """A finished file, mapped. ``columns``: an array over documents for each fact, ``bytes`` (UTF-8 size of the text) among them."""

    def __init__(self, path: Path, *, tokenizer_fingerprint: str | None = None, verify: bool = True) -> None:
        """``verify``: read all bytes once and compare the checksum; the header is always checked."""
        self.path = path
        self.header = header = read_header(path)
        check_tokenizer(path, header["tokenizer"], tokenizer_fingerprint)
        want = HEADER_BYTES + sum(size for _, size in _layout(header).values())
        if path.stat().st_size != want:
            raise DataError(f"{path}: {path.stat().st_size} bytes, its header asks for {want} bytes: cut short or added to", remedy=REMEDY)
        if verify and _body_digest(path).hexdigest() != header["sha256"]:
            raise DataError(f"{path}: content differs from the checksum in its header: the file is damaged", remedy=REMEDY)
        self.num_documents: int = header["documents"]
        self.num_tokens: int = header["tokens"]
        arrays = {name: self._map(name) for name in _layout(header)}
        self.tokens = arrays.pop("tokens")
        self.offsets = arrays.pop("offsets")
        self.columns = arrays

    def _map(self, name: str) -> np.ndarray:
        begin, size = _layout(self.header)[name]
        dtype = np.dtype(_dtypes(self.header)[name])
        padded = name == "tokens"
        count = self.num_tokens + 1 if padded else size // dtype.itemsize
        if not count:
            return np.zeros(0, dtype)
        return np.memmap(self.path, dtype=dtype, mode="r", offset=begin, shape=(count,))


def check_tokenizer(path: Path, found: str, wanted: str | None) -> None:
    """Refuse what another tokenizer encoded; ``None`` takes any."""
    if wanted is not None and found != wanted:
        raise DataError(
            f"{path}: was encoded by tokenizer {found[:12]}, not by {wanted[:12]}",
            remedy="encode the texts again, or use the tokenizer that they were encoded with",
        )


def read_header(path: Path) -> dict[str, Any]:
    """The header of a shard; refused when it is none, damaged, or of another version."""
    try:
        with path.open("rb") as file:
            block = file.read(HEADER_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", remedy=REMEDY) from error
    if not block.startswith(MAGIC):
        raise DataError(f"{path}: is no shard of encoded text", remedy=REMEDY)
    version = int.from_bytes(block[len(MAGIC) : len(MAGIC) + 4], "little")
    if version != VERSION:
        raise DataError(f"{path}: is a shard of version {version}, expected version {VERSION}", remedy=REMEDY)
    content, digest = block[:-_DIGEST_BYTES], block[-_DIGEST_BYTES:]
    if len(block) != HEADER_BYTES or hashlib.sha256(content).digest() != digest:
        raise DataError(f"{path}: the header differs from its checksum: the file is damaged", remedy=REMEDY)
    return dict(json.loads(content[len(MAGIC) + 4 :].rstrip(b"\0")))


def _dtypes(header: Mapping[str, Any]) -> dict[str, str]:
    return {"tokens": header["dtype"], "offsets": "<i8", **header["columns"]}


def _layout(header: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Where each array begins in the file, and its bytes (padded to eight)."""
    counts = {"tokens": header["tokens"] + 1, "offsets": header["documents"] + 1}
    places, begin = {}, HEADER_BYTES
    for name, dtype in _dtypes(header).items():
        size = counts.get(name, header["documents"]) * np.dtype(dtype).itemsize
        size += -size % 8 if name == "tokens" else 0
        places[name] = (begin, size)
        begin += size
    return places


def _body_digest(path: Path, end: int | None = None) -> Any:
    """SHA-256 of what stands between the header and ``end``."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = (path.stat().st_size if end is None else end) - file.seek(HEADER_BYTES)
        while left > 0 and (chunk := file.read(min(left, 1 << 22))):
            digest.update(chunk)
            left -= len(chunk)
    return digest


class ShardWriter:
    """Writes one shard beside its name; ``finish`` gives it the name. ``state`` says how to go on after the process was killed.

    The table of documents stays beside it (``remove_tables``), so that a shard finished after its last state can be gone on with.
    """

    def __init__(self, path: Path, *, dtype: str, end_id: int, header: Mapping[str, Any], state: Mapping[str, int] | None = None) -> None:
        """``header``: what is stated beside the counts. ``state``: what an earlier writer of this file had made durable."""
        self.path = path
        self._dtype, self._header = np.dtype(dtype), dict(header)
        self._tokens_path = path.with_name(path.name + _PARTIAL)
        self._table_path = path.with_name(path.name + ".documents" + _PARTIAL)
        self._row = np.dtype([("tokens", "<i8"), *self._header["columns"].items()])
        self.num_documents = self.num_tokens = 0
        self._durable: dict[str, int] | None = None
        self._tokens: BinaryIO
        self._table: BinaryIO
        if state is None:
            self._tokens, self._table = self._tokens_path.open("wb"), self._table_path.open("wb")
            self._digest = hashlib.sha256()
            self._tokens.write(bytes(HEADER_BYTES))
            self._write(np.array([end_id], self._dtype))
        else:
            self.num_documents, self.num_tokens = state["documents"], state["tokens"]
            if self.path.exists():  # finished after the state was taken: opened again
                os.replace(self.path, self._tokens_path)
            end = HEADER_BYTES + (self.num_tokens + 1) * self._dtype.itemsize
            self._digest = _body_digest(self._tokens_path, end)
            self._tokens, self._table = self._tokens_path.open("r+b"), self._table_path.open("r+b")
            for file, size in ((self._tokens, end), (self._table, self.num_documents * self._row.itemsize)):
                file.truncate(size)
                file.seek(0, os.SEEK_END)

    def add(self, ids: np.ndarray, lengths: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Documents end to end, each with its end token; ``lengths`` count it."""
        rows = np.zeros(len(lengths), self._row)
        rows["tokens"] = lengths
        for name in self._header["columns"]:
            rows[name] = columns[name]
        self._write(ids.astype(self._dtype, copy=False))
        self._table.write(rows.tobytes())
        self.num_documents += len(lengths)
        self.num_tokens += len(ids)

    def state(self) -> dict[str, int]:
        """Makes durable what was added, and says how much that is."""
        state = {"documents": self.num_documents, "tokens": self.num_tokens}
        if state != self._durable:
            for file in (self._tokens, self._table):
                file.flush()
                os.fsync(file.fileno())
            self._durable = state
        return state

    def finish(self) -> dict[str, Any]:
        """Completes the file; returns its header."""
        self._table.close()
        rows = np.fromfile(self._table_path, self._row)
        self._write(np.zeros(-(self._tokens.tell() - HEADER_BYTES) % 8, np.uint8))
        self._write(np.concatenate(([1], 1 + np.cumsum(rows["tokens"]))).astype("<i8"))
        for name in self._header["columns"]:
            self._write(rows[name])
        header = {**self._header, "dtype": self._dtype.str, "documents": self.num_documents, "tokens": self.num_tokens}
        header["sha256"] = self._digest.hexdigest()
        self._tokens.seek(0)
        self._tokens.write(_header_block(header))
        self._tokens.flush()
        os.fsync(self._tokens.fileno())
        self._tokens.close()
        os.replace(self._tokens_path, self.path)
        return header

    def _write(self, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values).data
        self._tokens.write(data)
        self._digest.update(data)


def remove_tables(folder: Path) -> None:
    """Removes what writers left beside their shards, once all of these are described for good."""
    for path in folder.glob("*" + _PARTIAL):
        path.unlink()


def _header_block(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, ensure_ascii=False, sort_keys=True).encode()
    room = HEADER_BYTES - _DIGEST_BYTES
    content = (MAGIC + VERSION.to_bytes(4, "little") + text).ljust(room, b"\0")
    if len(content) != room:
        raise RuntimeError(f"a shard header of {len(text)} bytes has no room in {HEADER_BYTES}")
    return content + hashlib.sha256(content).digest()
