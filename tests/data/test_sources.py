"""Laws of reading: a text comes out as it was written, and what is wrong is named with file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from beichen.data import records
from beichen.data.account import Account
from beichen.data.sources import PIECE_BYTES, Document, read_documents
from beichen.errors import DataError
from beichen.text.dialogue_schemas import SCHEMAS, Schema
from beichen.util.progress import SilentReporter
from tests.shared_data import shared

TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip())), min_size=1, max_size=8
)
ODD = ["a\u2028b\u2029c\x85d\x0be\x0cf", "\ufeff BOM", "👩‍👩‍👧‍👦 🇨🇳", "nul \x00 esc \x1b", '"\\ \r\n\t', "<_user>你好<_bot>", "𠮷" * 3]


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def texts_of(*paths: Path, **options: Any) -> list[str]:
    return [document.text for document in read_documents(paths, **options)]


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".gz"):
        data = gzip.compress(data)
    elif name.endswith(".zst"):
        half = len(data) // 2
        data = zstandard.compress(data[:half]) + zstandard.compress(data[half:])  # two frames are one file
    path.write_bytes(data)
    return path


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=TEXTS,
    escaped=st.booleans(),
    line_end=st.sampled_from(["\n", "\r\n"]),
    final=st.booleans(),
    bom=st.booleans(),
    compression=st.sampled_from(["", ".gz", ".zst"]),
)
def test_json_lines_give_back_every_text(
    tmp_path: Path, texts: list[str], escaped: bool, line_end: str, final: bool, bom: bool, compression: str
) -> None:
    lines = line_end.join(json.dumps({"text": text}, ensure_ascii=escaped) for text in texts + ODD) + line_end * final
    path = write(tmp_path, f"a.jsonl{compression}", b"\xef\xbb\xbf" * bom + lines.encode())
    assert texts_of(path) == texts + ODD


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, escaped=st.booleans(), indent=st.sampled_from([None, 1]), chunk=st.integers(1, 40))
def test_json_array_is_read_alike_in_chunks_of_any_size(
    tmp_path: Path, texts: list[str], escaped: bool, indent: int | None, chunk: int
) -> None:
    path = write(tmp_path, "a.json", json.dumps([{"text": text} for text in texts + ODD], ensure_ascii=escaped, indent=indent).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "CHUNK_BYTES", chunk)
        assert texts_of(path) == texts + ODD


def test_parquet_rows_are_documents(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ODD, "id": list(range(len(ODD)))}), tmp_path / "a.parquet")
    found = list(read_documents([tmp_path / "a.parquet"]))
    assert [document.text for document in found] == ODD
    assert found[1] == Document(ODD[1], str(tmp_path / "a.parquet"), "1", 2)
    with pytest.raises(DataError, match=r"no column 'txt' \(did you mean 'text'\?\)"):
        texts_of(tmp_path / "a.parquet", text_key="txt")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but nothing else")
    with pytest.raises(DataError, match=r"b\.parquet: cannot be read as parquet"):
        texts_of(tmp_path / "b.parquet")


def test_folders_and_patterns_are_sorted_and_names_are_known(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "b/1.jsonl.gz", "a.txt", "c.jsonl"):
        write(tmp_path, name, json.dumps({"text": name}).encode())
    write(tmp_path, "notes.md", b"not asked for")
    assert texts_of(tmp_path) == ['{"text": "a.txt"}', "b/1.jsonl.gz", "b/2.jsonl", "c.jsonl"]
    assert texts_of(tmp_path / "b" / "*.jsonl*") == ["b/1.jsonl.gz", "b/2.jsonl"]
    for wrong, message in {
        "c.json": r"no such file \(did you mean 'c.jsonl'\?\)",
        "*.nothing": "no file matches",
        "notes.md": "the name does not say which format",
    }.items():
        with pytest.raises(DataError, match=message):
            read_documents([tmp_path / wrong])  # at once, before the first document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": "b"\n', r"a\.jsonl:2: not JSON"),
        (b'\n\n[{"text": "a"}]\n', r":3: a list where an object"),
        (b'{"txt": "a"}\n', r"no key 'text' or 'data' or 'content' \(did you mean 'txt'\?\)"),
        (b'{"instruction": "a", "output": "b"}\n', r"looks like a dialogue"),
        (b'{"text": 3}\n', r":1: 'text' is int, not a string"),
        (b'{"text": "ab\\ud83d"}\n', r"half of a surrogate pair \(\\ud83d at character 2\)"),
        (b'{"text": "ok"}\n{"text": "\xc3\x28"}\n', r"a\.jsonl:2: invalid UTF-8 at byte 25 of the file \(bytes C3 28"),
        ("\ufeff".encode("utf-16-le") + '{"text": "a"}'.encode("utf-16-le"), r"looks like UTF-16"),
        (b"PK\x03\x04....", r"looks like zip"),
        (b"", r"a\.jsonl: no documents"),
        (b'{"text": " \\u3000\\n"}\n', r"no documents"),
        (b"[" * 100_000 + b"\n", r":1: not JSON"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        texts_of(write(tmp_path, "a.jsonl", content))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_dialogues_of_every_schema_are_known_where_text_is_read(tmp_path: Path, schema: Schema) -> None:
    with pytest.raises(DataError, match="looks like a dialogue"):
        texts_of(write(tmp_path, "a.jsonl", json.dumps(dict.fromkeys(schema.keys, "a")).encode()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"text": "a"},\n{"text": "b"},\n]', r"a\.json:3: not a JSON array"),
        (b'[{"text": "a"}\n{"text": "b"}]', r"a\.json:2: .*expected ',' or '\]'"),
        (b'[{"text": "a"}, 5]', r"element 2: a number"),
        (b'[{"text": "a"}] x', r"text after the end of the array"),
        (b'[{"text": "a"}', r"the file ends where , or \] was expected"),
        (b'[\n{"text": "\xff"}]', r"a\.json:2: invalid UTF-8 at byte 12"),
        (b"[]", r"no documents"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        texts_of(write(tmp_path, "a.json", content))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_damaged_compression_never_ends_quietly(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, b"".join(json.dumps({"text": str(number)}).encode() + b"\n" for number in range(5000)))
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 3], whole[:-1]):
        path.write_bytes(part)
        with pytest.raises(DataError, match="damaged or cut short"):
            texts_of(path)


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    line = b'{"text": "a"}\n'
    heard = Heard()
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(line))
    (tmp_path / "b.jsonl.gz").write_bytes(line)
    assert texts_of(tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", reporter=heard) == ["a", "a"]
    assert [warning.split(": ")[1] for warning in heard.warnings] == [
        "the name says plain, the content is gzip; read as gzip",
        "the name says gzip, the content is plain; read as plain",
    ]


def test_plain_text_is_cut_as_asked_and_nothing_is_lost(tmp_path: Path) -> None:
    paragraphs = [f"第{number}段 " + "字" * (number % 700) + "\nsecond line" for number in range(400)]
    path = write(tmp_path, "a.txt", ("\r\n\r\n".join(paragraphs).replace("\n", "\r\n").replace("\r\r", "\r")).encode())
    assert texts_of(path, text_unit="file") == ["\n\n".join(paragraphs)]
    assert texts_of(path, text_unit="paragraphs") == paragraphs
    assert texts_of(path, text_unit="lines") == [line for text in paragraphs for line in text.split("\n")]
    pieces = texts_of(path)
    assert "\n\n".join(pieces) == "\n\n".join(paragraphs)
    assert len(pieces) > 5
    assert all(PIECE_BYTES <= len(piece.encode()) < 1.5 * PIECE_BYTES for piece in pieces[:-1])


EXPECTED = {  # documents, and lines that are counted under a reason: corpus/dirty/README.md
    "broken_lines.jsonl": (10, {"not JSON": 3, "no text key": 1, "text is not a string": 2, "not a JSON object": 1}),
    "invalid_utf8.jsonl": (4, {"invalid UTF-8": 1}),
    "bom.jsonl": (6, {}),
    "crlf.jsonl": (6, {}),
    "no_final_newline.jsonl": (3, {}),
    "control_and_unicode.jsonl": (8, {"lone surrogate": 1}),
    "long_line.txt.gz": (1, {}),
    "long_line_repeat.jsonl": (1, {}),
    "duplicate_ids.jsonl": (3, {}),
    "mixed_language.jsonl": (7, {}),
    "misnamed.jsonl": (1, {}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_dirty_files_do_what_their_readme_expects(name: str) -> None:
    account = Account()
    found = list(read_documents([shared(f"data/corpus/dirty/{name}")], on_bad="count", account=account))
    documents, dropped = EXPECTED[name]
    assert len(found) == documents
    assert {reason: tally.items for reason, tally in account.dropped.items()} == dropped
    account.used.add(sum(document.num_bytes for document in found), len(found))
    account.check()
    assert not any(document.text.startswith("\ufeff") or document.text.endswith("\r") for document in found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken_lines.jsonl", ":5: not JSON"),
        ("invalid_utf8.jsonl", ":4: invalid UTF-8 at byte"),
        ("empty.jsonl", "no documents"),
        ("whitespace_only.txt", "no documents"),
        ("gbk.txt", "looks like GBK/GB18030; .* convert it: iconv"),
        ("utf16le_bom.txt", "looks like UTF-16"),
    ],
)
def test_dirty_files_are_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_documents([shared(f"data/corpus/dirty/{name}")]))
