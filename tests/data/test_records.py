"""Records of .json files: one array, one object over several lines, or a line for each; which of them is seen from the content."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.data.account import Account, BadInput
from beichen.data.records import Record, read_records
from beichen.errors import DataError

VALUES = st.dictionaries(
    st.text(max_size=5), st.none() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=3), max_size=4
)


def records_of(path: Path, bad: BadInput | None = None) -> list[Record]:
    return list(read_records(path, bad or BadInput()))


@given(st.lists(VALUES, min_size=1, max_size=4), st.sampled_from([None, 0, 2]), st.booleans())
def test_all_three_forms_hold_the_same_records(tmp_path_factory, values, indent, bom):
    folder = tmp_path_factory.mktemp("forms")
    start = codecs.BOM_UTF8 if bom else b""
    texts = {
        "lines.json": "\n".join(json.dumps(value) for value in values),
        "lines.jsonl": "\n".join(json.dumps(value) for value in values),
        "array.json": json.dumps(values, indent=indent),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(start + text.encode())
        assert [record.value for record in records_of(folder / name)] == values
    for place, value in enumerate(values):
        (folder / "one.json").write_bytes(start + json.dumps(value, indent=indent).encode())
        (record,) = records_of(folder / "one.json")
        assert (record.value, record.line) == (value, 1), place


@pytest.mark.parametrize(
    ("content", "line"),
    [('{"a": 1,\n "b": }', 1), ('{\n "a": 1\n}\n{"b": 2}\n', 1), ('{"a": 1}\n{"b": \n', 2)],
)
def test_what_is_none_of_them_is_named_with_its_line(tmp_path, content, line):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"a\.json:{line}: not JSON"):
        records_of(path)


def test_lines_that_are_left_out_are_all_counted(tmp_path):
    """A file that begins like one object and is none is read line by line, as what it was meant to be."""
    path = tmp_path / "a.json"
    path.write_text('{"cut": \n{"a": 1}\n[1]\n{"b": 2}')
    account = Account()
    found: list[dict[str, Any]] = [record.value for record in records_of(path, BadInput("count", account))]
    assert found == [{"a": 1}, {"b": 2}]
    assert {reason: tally.items for reason, tally in account.dropped.items()} == {"not JSON": 1, "not a JSON object": 1}
