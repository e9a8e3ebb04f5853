"""A file to bytes and lines: gzip and zstd undone, encodings that are not UTF-8 refused by name.

In: a path. Out: a binary stream, or (number, offset, bytes) for each line. Rule: lines end at ``\\n`` only, because
U+2028 and its kin stand inside real texts; memory is bounded by one line; damaged compression never ends quietly.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from beichen.data.files import COMPRESSIONS
from beichen.errors import DataError
from beichen.util.progress import SILENT, Reporter

MAX_LINE_BYTES = 256 << 20
CHUNK_BYTES = 1 << 20
UTF8_BOM = b"\xef\xbb\xbf"

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1": "parquet",
    b"PK\x03\x04": "zip",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
REFUSED = {
    "zip": "unpack it first: unzip {path}",
    "xz": "unpack it first: xz -d {path}",
    "bzip2": "unpack it first: bzip2 -d {path}",
    "parquet": "give it a name that ends in .parquet",
    "UTF-16": "name the encoding (data encode --encoding utf-16), or convert it: iconv -f UTF-16 -t UTF-8 {path} > {path}.utf8.txt",
}


@contextmanager
def open_bytes(
    path: Path, *, encoding: str | None = None, reporter: Reporter = SILENT, consumed: Callable[[int], None] | None = None
) -> Iterator[io.BufferedReader]:
    """The file's content with compression undone, chosen by its first bytes and not by its name.

    ``encoding``: what its text is in, if not UTF-8; it is then recoded. ``consumed`` is told how many bytes were taken from disk since
    its last call, for progress bars.
    """
    with _opened(path, encoding is not None, reporter, consumed) as stream:
        yield stream if encoding is None else io.BufferedReader(_Recoded(stream, path, encoding), CHUNK_BYTES)


@contextmanager
def _opened(path: Path, any_encoding: bool, reporter: Reporter, consumed: Callable[[int], None] | None) -> Iterator[io.BufferedReader]:
    try:
        raw: io.BufferedReader = io.BufferedReader(_CountedFile(path, consumed), CHUNK_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}", remedy="check the path and its permissions") from error
    with raw:
        head = raw.peek(8)
        kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "plain")
        if kind == "UTF-16" and any_encoding:
            kind = "plain"
        if kind in REFUSED:
            raise DataError(f"{path}: looks like {kind}, which is not read here", remedy=REFUSED[kind].format(path=path))
        named = COMPRESSIONS.get(path.suffix.lower(), "plain")
        if kind != named and head:
            reporter.warn(f"{path}: the name says {named}, the content is {kind}; read as {kind}")
        if kind == "plain":
            yield raw
        else:
            decompressed = gzip.GzipFile(fileobj=raw) if kind == "gzip" else _ZstdStream(raw)
            yield io.BufferedReader(_Guarded(decompressed, path), CHUNK_BYTES)


class _CountedFile(io.FileIO):
    """A file that reports how much of it has been taken."""

    def __init__(self, path: Path, consumed: Callable[[int], None] | None) -> None:
        super().__init__(path, "rb")
        self._path, self._consumed = path, consumed

    def readinto(self, buffer: Any) -> int | None:
        try:
            count = super().readinto(buffer)
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read: {error.strerror}", remedy="check the disk and the permissions") from error
        if self._consumed is not None and count:
            self._consumed(count)
        return count


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _ZstdStream:
    """All frames of a zstd file; unlike the library's own reader it notices a file that ends inside a frame."""

    def __init__(self, raw: _Readable) -> None:
        import zstandard

        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self._frame = self._decompressor.decompressobj()
        self._inside = False
        self._pending = b""
        self._ready = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            chunk = self._pending or self._raw.read(1 << 16)
            self._pending = b""
            if not chunk:
                if self._inside:
                    raise EOFError("the last frame is not complete")
                return b""
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            self._ready = memoryview(self._frame.decompress(chunk))
            self._inside = not self._frame.eof
            if self._frame.eof:
                self._pending = self._frame.unused_data
        data, self._ready = self._ready[:size], self._ready[size:]
        return bytes(data)


class _Guarded(io.RawIOBase):
    """A decompressor whose faults name the file."""

    def __init__(self, stream: _Readable, path: Path) -> None:
        self._stream, self._path = stream, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        from zstandard import ZstdError

        view = memoryview(buffer)
        try:
            data = self._stream.read(len(view))
        except (OSError, EOFError, zlib.error, ZstdError) as error:
            raise DataError(
                f"{self._path}: the compressed content is damaged or cut short ({error})", remedy="fetch or write the file again"
            ) from error
        view[: len(data)] = data
        return len(data)


class _Recoded(io.RawIOBase):
    """Text in another encoding as UTF-8, strictly."""

    def __init__(self, stream: BinaryIO, path: Path, encoding: str) -> None:
        self._stream, self._path = stream, path
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        while not self._ready and not self._ended:
            chunk = self._stream.read(len(view))
            self._ended = not chunk
            try:
                self._ready = self._decoder.decode(chunk, final=self._ended).encode("utf-8")
            except UnicodeDecodeError as error:
                bad = error.object[error.start : error.start + 4].hex(" ").upper()
                message = f"{self._path}: not {error.encoding} (bytes {bad}: {error.reason})"
                raise DataError(message, remedy="name the encoding that the file is in") from error
        count = min(len(view), len(self._ready))
        view[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def read_lines(stream: BinaryIO, path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(1-based number, byte offset, line without its end) for each line; a BOM before the first and a CR at the end are removed."""
    offset = 0
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise DataError(
                f"{path}:{number}: the line is longer than {MAX_LINE_BYTES >> 20} MiB", remedy="cut the text into several documents"
            )
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        start = offset
        if number == 1 and content.startswith(UTF8_BOM):
            content, start = content[len(UTF8_BOM) :], len(UTF8_BOM)
        yield number, start, content
        offset += len(line)


def utf8_fault(error: UnicodeDecodeError, content: bytes, path: Path, number: int, offset: int) -> DataError:
    """The error for a line that is not UTF-8: the place of its first bad byte, and the likely encoding."""
    bad = content[error.start : error.start + 4].hex(" ").upper()
    if _looks_like_gb18030(content):
        remedy = "the text looks like GBK/GB18030; name the encoding (data encode --encoding gb18030), or convert it: "
        remedy += f"iconv -f GB18030 -t UTF-8 {path} > {path}.utf8.txt"
    else:
        remedy = "save the file as UTF-8, or remove the line"
    return DataError(f"{path}:{number}: invalid UTF-8 at byte {offset + error.start} of the file (bytes {bad})", remedy=remedy)


def _looks_like_gb18030(content: bytes) -> bool:
    """Whether the bytes decode strictly as GB18030 and give mostly common Han characters."""
    try:
        text = content[:65536].decode("gb18030")
    except UnicodeDecodeError as error:
        if len(content) <= 65536 or error.start < 65530:
            return False
        text = content[: error.start].decode("gb18030")
    foreign = [character for character in text if ord(character) > 0x7F]
    common = sum("\u4e00" <= c <= "\u9fff" or "\u3000" <= c <= "\u303f" or "\uff00" <= c <= "\uffef" for c in foreign)
    return bool(foreign) and common >= 0.9 * len(foreign)
