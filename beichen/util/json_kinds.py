"""What a value of JSON is called to whoever wrote it: a string, a number, an object; never by the name that Python has for it."""

from __future__ import annotations

from collections.abc import Mapping

_KINDS: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number", type(None): "null"
}  # fmt: skip


def json_kind(value: object) -> str:
    """``a number`` for 3; what is no JSON, as Python calls it."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def json_field(value: object) -> str:
    """The same of an object's field, which is ``missing`` where it is null, as where it is not there."""
    return "missing" if value is None else json_kind(value)
