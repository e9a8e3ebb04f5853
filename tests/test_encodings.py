"""Every text that the package or the bench reads or writes names its encoding: a system's own may be GBK, and our files are UTF-8."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import beichen
from tests.shared_data import REPOSITORY

SOURCES = sorted(file for folder in (Path(beichen.__file__).parent, REPOSITORY / "bench") for file in folder.rglob("*.py"))
WHOLE = {"read_text", "write_text"}
BYTES_BY_DEFAULT = {"os", "gzip", "zipfile", "archive"}  # whose open() makes no text unless told


def without_encoding(tree: ast.AST) -> Iterator[int]:
    """Lines of the calls that make text of bytes, or bytes of text, in whatever encoding the system has."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if "encoding" in given:
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = getattr(call.func.value, "id", "") if isinstance(call.func, ast.Attribute) else ""
        words = [value.value for value in [*call.args, *given.values()] if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        opens = name == "open" and owner not in BYTES_BY_DEFAULT and not any("b" in word and set(word) <= set("rwxab+") for word in words)
        asks = any(isinstance(value, ast.Constant) and value.value is True for value in map(given.get, ("text", "universal_newlines")))
        if opens or asks or name == "TextIOWrapper" or (isinstance(call.func, ast.Attribute) and name in WHOLE):
            yield call.lineno


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("path.read_text()", True), ("path.write_text(x)", True), ("open('bench')", True), ("path.open('a')", True),
        ("subprocess.run(x, text=True)", True), ("io.TextIOWrapper(x)", True),
        ("path.read_text(encoding='utf-8')", False), ("open(path, 'rb')", False), ("path.open(mode='wb')", False),
        ("os.open(path, os.O_RDONLY)", False), ("subprocess.run(x, text=True, encoding='utf-8')", False), ("write_text(place)", False),
    ],
)  # fmt: skip
def test_the_check_sees(line, seen):
    assert any(without_encoding(ast.parse(line))) is seen


def test_text_names_its_encoding():
    found = [f"{path}:{line}" for path in SOURCES for line in without_encoding(ast.parse(path.read_text(encoding="utf-8")))]
    assert SOURCES and not found
