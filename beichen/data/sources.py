"""``read_documents``: the texts of any supported file, one ``Document`` at a time.

In: paths, folders, patterns of .jsonl, .json (an array, or JSON lines), .txt and .parquet, each (but parquet) also with
.gz or .zst. Out: documents in file order, in bounded memory. Rule: a text is taken exactly as it stands; what cannot be
taken is refused or counted under a reason, never repaired.

A plain text file says nothing about documents. By default (``text_unit="pieces"``) it is cut at line ends, preferably at
blank lines, into pieces of about 16 KiB: so a single large file streams, and parts of it can be held out. ``"file"`` takes it
whole, ``"lines"`` and ``"paragraphs"`` take each line, or each run of lines between blank lines, ``"entries"`` begins anew at each
line that ends with a colon: the entry's title.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from beichen.data.account import Account, BadInput, OnBad
from beichen.data.files import expand_paths, format_of
from beichen.data.readers import Reader, TextUnit, find_reader
from beichen.data.records import Record, read_records
from beichen.data.streams import open_bytes, read_lines, utf8_fault
from beichen.errors import DataError, nearest
from beichen.text.dialogue_schemas import SCHEMAS
from beichen.util.progress import SILENT, Reporter

PIECE_BYTES = 16 << 10


@dataclass(frozen=True)
class Document:
    """One text and where it came from; ``line`` as in ``Record``, for text files the line at which it starts."""

    text: str
    source: str
    id: str
    line: int

    @property
    def origin(self) -> str:
        return f"{self.source}:{self.line}"

    @property
    def num_bytes(self) -> int:
        return len(self.text.encode("utf-8"))


def read_documents(
    paths: Iterable[str | Path],
    *,
    text_key: str | None = None,
    text_unit: TextUnit = "pieces",
    on_bad: OnBad = "raise",
    account: Account | None = None,
    reporter: Reporter = SILENT,
    consumed: Callable[[int], None] | None = None,
) -> Iterator[Document]:
    """Documents of all files; blank ones are dropped and counted.

    ``text_key=None`` takes ``text``, else ``data``, else ``content``. ``account`` is told what was read and dropped, ``consumed``
    how many bytes were taken from disk. No document at all is an error.
    """
    files = expand_paths(paths)  # before the first document, so that a wrong path is found at once
    account = Account() if account is None else account
    bad = BadInput(on_bad, account, reporter)
    return _documents(files, find_reader("text", text_key), text_unit, bad, consumed)


def _documents(
    files: list[Path], reader: Reader, text_unit: TextUnit, bad: BadInput, consumed: Callable[[int], None] | None
) -> Iterator[Document]:
    total = 0
    for file in files:
        found = 0
        if format_of(file) == "text":
            documents = read_text_file(file, text_unit, bad, consumed=consumed)
        else:
            records = read_records(
                file, bad, columns=reader.columns, optional_columns=("id",), reporter=bad.reporter, consumed=consumed
            )  # fmt: skip
            documents = documents_of_records(records, reader, bad)
        for document in counted(documents, bad.account):
            found += 1
            yield document
        if not found:
            bad.reporter.warn(f"{file}: no documents")
        total += found
    if not total:
        raise no_documents(files)


def no_documents(files: list[Path]) -> DataError:
    """The error for files without any text."""
    names = ", ".join(str(file) for file in files[:3]) + (" ..." if len(files) > 3 else "")
    return DataError(f"{names}: no documents", remedy='give a file with text, for example lines such as {"text": "..."}')


def counted(documents: Iterable[Document], account: Account) -> Iterator[Document]:
    """Counts documents as read, and drops the blank ones."""
    for document in documents:
        size = document.num_bytes
        account.read.add(size)
        if document.text.strip():
            yield document
        else:
            account.drop("blank text", size)


def documents_of_records(records: Iterable[Record], reader: Reader, bad: BadInput) -> Iterator[Document]:
    """The text of each record; one without is refused, with its place."""
    for record in records:
        text = _text_of(record, reader)
        if isinstance(text, str):
            yield Document(text, record.source, str(record.value.get("id", "")), record.line)
        else:
            reason, error = text
            bad.account.read.add(record.num_bytes)
            bad.refuse(reason, record.num_bytes, error)


def _text_of(record: Record, reader: Reader) -> str | tuple[str, DataError]:
    """The text, or why there is none."""
    keys, seen = reader.columns, ", ".join(record.value) or "none"
    if reader.build is not None:
        key, text = "text", reader.build(record.value)
        if text is None:
            return reader.without, DataError(f"{record.origin}: {reader.without}", remedy=f"choose another reader; keys here: {seen}")
    else:
        found = next((key for key in keys if key in record.value), None)
        if found is None:
            wanted = " or ".join(repr(name) for name in keys)
            remedy = f"name the key that holds the text (--text-key; in a recipe text_key), or leave the file out; keys here: {seen}"
            if any(schema.fits(record.value) for schema in SCHEMAS.values()):
                remedy = f"this looks like a dialogue, where text is read: train takes those as data.kind dialogues; or {remedy}"
            return reader.without, DataError(f"{record.origin}: no key {wanted}{nearest(keys[0], record.value)}", remedy=remedy)
        key, text = found, record.value[found]
    if not isinstance(text, str):
        error = DataError(f"{record.origin}: '{key}' is {_kind(text)}, not a string", remedy="correct or remove the line")
        return "text is not a string", error
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as fault:
        escape = f"\\u{ord(text[fault.start]):04x}"
        message = f"{record.origin}: '{key}' holds half of a surrogate pair ({escape} at character {fault.start}), which is no text"
        return "lone surrogate", DataError(message, remedy="correct or remove the line")
    return text


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def read_text_file(
    file: Path, unit: TextUnit, bad: BadInput, *, encoding: str | None = None, consumed: Callable[[int], None] | None = None
) -> Iterator[Document]:
    """A plain text file cut by ``unit``; line ends inside a document become ``\\n``."""
    lines: list[str] = []
    size, start = 0, 1
    with open_bytes(file, encoding=encoding, reporter=bad.reporter, consumed=consumed) as stream:
        for number, offset, content in read_lines(stream, file):
            try:
                line = content.decode("utf-8")
            except UnicodeDecodeError as error:
                bad.account.read.add(len(content))
                bad.refuse("invalid UTF-8", len(content), utf8_fault(error, content, file, number, offset))
                continue
            blank = not line.strip()
            full = size >= PIECE_BYTES and (blank or size >= 2 * PIECE_BYTES)
            title = unit == "entries" and line.rstrip().endswith(("：", ":"))
            if lines and (title or unit == "lines" or (unit == "paragraphs" and blank) or (unit == "pieces" and full)):
                yield _text_document(lines, file, start)
                lines, size = [], 0
            if lines or not blank:
                start = start if lines else number
                lines.append(line)
                size += len(content) + 1
    if lines:
        yield _text_document(lines, file, start)


def _text_document(lines: list[str], file: Path, start: int) -> Document:
    while lines and not lines[-1].strip():
        lines.pop()
    return Document("\n".join(lines), str(file), "", start)
