"""Files to records: one JSON object a line, one element of a JSON array, or one row of a table (``files.TABLES``).

In: files from ``files.expand_paths``. Out: ``Record``s in file order, with the place they stand at. Texts and dialogues
are both read through here. Rule: every line is either yielded, or refused by name with file and line; none is skipped in silence.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from beichen.data.account import BadInput
from beichen.data.files import TABLES, format_of
from beichen.data.streams import CHUNK_BYTES, MAX_LINE_BYTES, open_bytes, read_lines, utf8_fault
from beichen.errors import DataError
from beichen.util.json_kinds import json_kind
from beichen.util.late import resolve
from beichen.util.progress import SILENT, Reporter


@dataclass(frozen=True)
class Record:
    """One JSON object; ``line`` is 1-based: the line of a jsonl file, the number of an array's element or of a table's row."""

    value: dict[str, Any]
    source: str
    line: int
    num_bytes: int  # as it stands in the file

    @property
    def origin(self) -> str:
        return f"{self.source}:{self.line}"


def read_records(
    file: Path,
    bad: BadInput,
    *,
    columns: Sequence[str] | None = None,
    optional_columns: Sequence[str] = (),
    encoding: str | None = None,
    reporter: Reporter = SILENT,
    consumed: Callable[[int], None] | None = None,
) -> Iterator[Record]:
    """Records of one file. Of a table only the columns named are read, of which at least one of ``columns`` must exist.

    Refused items are counted in ``bad.account`` as read and dropped; what is yielded is the caller's to count.
    """
    if table := TABLES.get(format_of(file) or ""):
        yield from resolve(table)(file, columns, optional_columns, consumed)
        return
    with open_bytes(file, encoding=encoding, reporter=reporter, consumed=consumed) as stream:
        if format_of(file) == "json" and _first_character(stream) == b"[":
            yield from _read_array(stream, file, bad)
        elif format_of(file) == "json" and _spans_lines(stream):
            yield from _read_one_object(stream, file, bad)
        else:
            yield from parse_lines(read_lines(stream, file), file, bad)


def holds_lines(file: Path, encoding: str | None = None) -> bool:
    """Whether each line of the file is a record, so that lines can be parsed apart from each other."""
    if format_of(file) != "json":
        return format_of(file) == "jsonl"
    with open_bytes(file, encoding=encoding) as stream:
        return _first_character(stream) != b"["


def _first_character(stream: io.BufferedReader) -> bytes:
    head = stream.peek(CHUNK_BYTES)
    return head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]


def _spans_lines(stream: io.BufferedReader) -> bool:
    """Whether the first line is not the whole of a JSON value."""
    head = stream.peek(CHUNK_BYTES)
    line, newline, _ = head.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return bool(newline)
    return False


def _read_one_object(stream: BinaryIO, file: Path, bad: BadInput) -> Iterator[Record]:
    """A file that is one object over several lines; one that is not is read as the lines that it should have been."""
    content = stream.read(MAX_LINE_BYTES)
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        yield Record(value, str(file), 1, len(content))
    else:
        yield from parse_lines(read_lines(io.BytesIO(content), file), file, bad)


def parse_lines(lines: Iterable[tuple[int, int, bytes]], file: Path, bad: BadInput) -> Iterator[Record]:
    """Records of lines as ``streams.read_lines`` gives them."""
    for number, offset, content in lines:
        if not content.strip():
            continue  # holds nothing: no item was read
        try:
            value = json.loads(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            _refuse(bad, "invalid UTF-8", number, content, utf8_fault(error, content, file, number, offset))
            continue
        except (ValueError, RecursionError) as error:
            _refuse(bad, "not JSON", number, content, _not_json(file, number, content, error))
            continue
        if not isinstance(value, dict):
            _refuse(bad, "not a JSON object", number, content, _not_an_object(f"{file}:{number}", value))
            continue
        yield Record(value, str(file), number, len(content))


def _refuse(bad: BadInput, reason: str, number: int, content: bytes, fault: DataError) -> None:
    bad.account.read.add(len(content))
    bad.refuse(reason, len(content), fault, line=number, content=content)


def _not_json(file: Path, number: int, content: bytes, error: ValueError | RecursionError) -> DataError:
    detail = f"{error.msg.removesuffix(' at')} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
    shown = content[:40].decode("utf-8", "replace")
    remedy = "each line must be one JSON object; correct or remove the line"
    if number == 1 and content.lstrip()[:1] == b"[":
        remedy = "the file looks like a JSON array: give it a name that ends in .json"
    elif number == 1 and content.strip() == b"{":
        remedy = "write each object on one line, or all objects as one JSON array"
    return DataError(f"{file}:{number}: not JSON ({detail}): {shown!r}", remedy=remedy)


def _not_an_object(place: str, value: object) -> DataError:
    return DataError(f"{place}: {json_kind(value)} where an object was expected", remedy='write {"text": ...}')


def _read_array(stream: BinaryIO, file: Path, bad: BadInput) -> Iterator[Record]:
    """Elements of one array, decoded as they arrive; memory holds one chunk or one element, whichever is larger."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    parser = json.JSONDecoder()
    text, position, line, number = "", 0, 1, 0
    expected = "["
    offset = 0
    want = CHUNK_BYTES
    ended = False
    while True:
        position = _skip_blanks(text, position)
        at_end = position == len(text)
        if not at_end and expected == "nothing":
            raise DataError(f"{file}:{line + text.count(chr(10), 0, position)}: text after the end of the array", remedy="remove it")
        if not at_end and expected == "[":
            position, expected = position + 1, "element or ]"
            continue
        if not at_end and text[position] == "]" and expected != "element":
            position, expected = position + 1, "nothing"
            continue
        if not at_end and expected == ", or ]":
            if text[position] != ",":
                raise _broken_array(file, line + text.count("\n", 0, position), "expected ',' or ']'", text[position:])
            position, expected = position + 1, "element"
            continue
        if not at_end and expected in ("element", "element or ]"):
            try:
                value, end = parser.raw_decode(text, position)
            except (ValueError, RecursionError) as error:
                if ended or len(text) - position > MAX_LINE_BYTES:
                    detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    place = error.pos if isinstance(error, json.JSONDecodeError) else position
                    raise _broken_array(file, line + text.count("\n", 0, place), detail, text[place:]) from None
                end = len(text)
            if end < len(text) or ended:  # a value that touches the end of the buffer may go on behind it
                number += 1
                content = text[position:end].encode("utf-8", "surrogatepass")
                position, expected = end, ", or ]"
                if isinstance(value, dict):
                    yield Record(value, str(file), number, len(content))
                else:
                    _refuse(bad, "not a JSON object", number, content, _not_an_object(f"{file}: element {number}", value))
                want = CHUNK_BYTES
                continue
        if ended:
            if expected != "nothing":
                raise _broken_array(file, line + text.count("\n"), f"the file ends where {expected} was expected", "")
            return
        chunk = stream.read(want)
        ended = not chunk
        line += text.count("\n", 0, position)
        try:
            text, position = text[position:] + decoder.decode(chunk, final=ended), 0
        except UnicodeDecodeError as error:
            number_of_line = line + text.count("\n") + error.object[: error.start].count(b"\n")
            raise utf8_fault(error, error.object, file, number_of_line, offset + len(chunk) - len(error.object)) from None
        offset += len(chunk)
        want = min(want * 2, MAX_LINE_BYTES)  # a long element is tried again after doubling, not after each chunk


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _broken_array(file: Path, line: int, detail: str, rest: str) -> DataError:
    shown = f" at {rest[:40]!r}" if rest else ""
    return DataError(
        f"{file}:{line}: not a JSON array ({detail}{shown})", remedy="correct the file; all of it must be one array of objects"
    )
