"""A description that is none, or of another version, is refused by name, with a remedy that fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beichen.data.shards import REMEDY
from beichen.data.versioned_file import read_versioned
from beichen.errors import DataError

WHOLE = {"format": "a store", "version": 3, "documents": 5}


def read(path: Path) -> dict:
    return read_versioned(path, file_format="a store", version=3, if_missing="look elsewhere")


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(WHOLE))
    assert read(tmp_path / "one.json") == WHOLE


@pytest.mark.parametrize(
    ("content", "said", "remedy"),
    [
        (None, "no readable description", "look elsewhere"),
        ("{", "no readable description", REMEDY),
        ("[1]", "holds no object", REMEDY),
        (json.dumps({**WHOLE, "version": 2}), "is 'a store' version 2, expected 'a store' version 3", REMEDY),
        (json.dumps({"documents": 5}), "is None version None", REMEDY),
    ],
)
def test_all_else_is_refused_by_name(tmp_path, content, said, remedy):
    path = tmp_path / "one.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=said) as fault:
        read(path)
    assert str(path) in str(fault.value) and fault.value.remedy == remedy
