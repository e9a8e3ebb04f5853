"""Settings explained by ``--help`` and printed as recipes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from beichen.config import help_on_settings, settings_as_dict, settings_as_yaml
from beichen.config.output import field_comments


@dataclass(frozen=True, kw_only=True)
class Inner:
    """An inner section.

    width: how wide, said in the docstring
    """

    width: int = 3
    names: tuple[str, ...] = ("a#b",)  # which 名字
    fast: bool = True  # whether "#" matters


@dataclass(frozen=True, kw_only=True)
class Outer:
    out: Path  # where it goes
    inner: Inner = Inner()
    maybe: Inner | None = None
    rate: float | None = None


def test_help_names_every_setting_its_type_default_and_reason():
    text = help_on_settings(Outer)
    assert "  --out  a path; required\n      where it goes" in text
    assert "  --inner.width  a whole number; default 3\n      how wide, said in the docstring" in text
    assert "  --inner.names  a list of texts; default ['a#b']\n      which 名字" in text
    assert '  --inner.fast  true or false; default true\n      whether "#" matters' in text
    assert "--maybe.width" in text
    assert "  --rate  a number or null; default null" in text


def test_yaml_is_for_people():
    settings = Outer(out=Path("运行/1"), rate=1e-5)
    assert settings_as_yaml(settings).splitlines() == [
        "out: 运行/1", "inner:", "  width: 3", "  names:", "    - a#b", "  fast: true", "maybe: null", "rate: 1.0e-05",
    ]  # fmt: skip
    assert settings_as_dict(settings)["out"] == "运行/1"


def test_numbers_that_are_not_finite_have_yaml_names():
    assert settings_as_yaml({"a": float("inf"), "b": float("-inf"), "c": float("nan")}) == "a: .inf\nb: -.inf\nc: .nan\n"


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    """What it is.

    first: a sentence that goes on
        in the next line, and
    in a third.
    second: short.

    Not a field.
    """

    first: int = 1
    second: int = 2


@dataclass(frozen=True, kw_only=True)
class Needed:
    size: int


@dataclass(frozen=True, kw_only=True)
class Optionally:
    must: int
    perhaps: Needed | None = None


def test_comments_are_whole_sentences():
    assert field_comments(Wrapped) == {"first": "a sentence that goes on in the next line, and in a third.", "second": "short."}


def test_help_tells_what_is_required_from_what_a_section_left_out_would_need():
    lines = help_on_settings(Optionally).splitlines()
    assert lines == ["  --must  a whole number; required", "  --perhaps.size  a whole number; needed with the others"]
