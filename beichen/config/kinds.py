"""What a setting's type expects, in words for a person, and the conversion of one value by jsonargparse."""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, Field, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

from beichen.config.sources import Raw

_PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
_PLURAL = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false values", Path: "paths"}


def is_section(kind: object) -> TypeGuard[type]:
    """Whether the type is a dataclass, so that its keys can be given one by one."""
    return isinstance(kind, type) and is_dataclass(kind)


def optional_of(kind: object) -> object | None:
    """``T`` for ``T | None``, else ``None``."""
    if get_origin(kind) in (Union, types.UnionType):
        rest = [part for part in get_args(kind) if part is not type(None)]
        if len(rest) == 1 and len(get_args(kind)) == 2:
            return rest[0]
    return None


def element_of(kind: object) -> object | None:
    """``T`` for ``tuple[T, ...]`` and ``list[T]``, else ``None``."""
    origin, inner = get_origin(kind), get_args(kind)
    if (origin is tuple and len(inner) == 2 and inner[1] is Ellipsis) or (origin is list and len(inner) == 1):
        return inner[0]
    return None


def is_sequence(kind: object) -> bool:
    """Whether several words may follow the flag."""
    return get_origin(optional_of(kind) or kind) in (tuple, list)


def default_of(field: Field[Any]) -> Any:
    """The field's default value, or ``dataclasses.MISSING`` when it must be given."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def describe(kind: object) -> str:
    """What the type expects: 'a whole number', "one of 'a', 'b'", 'a list of paths or null'."""
    inner = optional_of(kind)
    if inner is not None:
        return f"{describe(inner)} or null"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    element = element_of(kind)
    if element is not None:
        if is_section(element):
            return "a list of sections"
        return f"a list of {_PLURAL[element]}" if element in _PLURAL else f"a list, each {describe(element)}"
    if get_origin(kind) is dict:
        return f"names, each with {describe(get_args(kind)[1])}"
    if get_origin(kind) is tuple:
        return f"a list of {len(get_args(kind))}: " + ", ".join(describe(part) for part in get_args(kind))
    if is_section(kind):
        return "a section of keys"
    if isinstance(kind, type) and kind in _PLAIN:
        return _PLAIN[kind]
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else describe(part) for part in get_args(kind))
    return str(kind)


@cache
def _converter(kind: Any) -> Any:
    import jsonargparse  # late: a tenth of a second that `beichen --help` does not need

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    return parser


def convert(kind: Any, raw: Raw) -> Any:
    """The value as ``kind``; raises ``ValueError`` when it is not one. No setting means anything as NaN or infinity."""
    import argparse

    parser = _converter(kind)
    try:
        if raw.words:
            if len(raw.value) > 1:
                raise ValueError("more than one value")
            value = parser.parse_args([f"--value={raw.value[0]}"]).value
        else:
            value = parser.parse_object({"value": raw.plain()}).value
    except (argparse.ArgumentError, TypeError) as fault:
        raise ValueError(str(fault)) from fault
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    return value
