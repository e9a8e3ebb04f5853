"""Every part can be asked for: its function is there and takes what it is given; the bench's README says what it measures."""

from __future__ import annotations

import inspect

import pytest

from beichen.util.late import resolve
from bench.__main__ import main
from bench.parts import PARTS, USUAL
from bench.records import FOLDER


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_given_what_its_function_takes(name):
    part = PARTS[name]
    inspect.signature(resolve(part.by)).bind("run", **part.given, **dict.fromkeys(part.takes))


def test_the_help_and_the_readme_tell_of_every_part(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told, readme = capsys.readouterr().out, (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, part in PARTS.items():
        assert part.told in told and f"| `{name}` |" in readme
    assert set(USUAL) < set(PARTS)


def test_a_part_that_is_not_known_is_told_with_those_that_are(capsys):
    with pytest.raises(SystemExit):
        main(["decoding"])
    assert f"expected {', '.join(PARTS)}" in capsys.readouterr().err
