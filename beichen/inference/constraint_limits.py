"""What a constraint that somebody else wrote may ask for, before any grammar is built from it.

The library counts its own work and gives up in time, with two exceptions that are refused here by their size: counted repetitions
inside each other, and numbers that must be multiples of several others, also where a grammar has a schema within.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import prod
from typing import Any

from beichen.errors import SettingsError
from beichen.inference.api import Constraint

MAX_TEXT = {"json_schema": 65536, "json_object": 65536, "regex": 4096, "choices": 65536, "lark": 8192}  # characters
MAX_REGEX_LENGTH = 5000  # of a regex whose counted repetitions are written out
MAX_MULTIPLE = 10_000  # product of the numbers of which a schema wants multiples

_COUNTED = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_EMBEDDED = re.compile(r"%json\s*")
_NAMED = re.compile(r"\\[pPxuU]\{[^}]*\}")


def written_out(regex: str) -> int:
    """The length of a regex with its counted repetitions written out: ``(ab{3}){2}`` is 8."""
    sizes = [[0, 0]]  # for each open group: what is complete, and the last piece, which a repetition may follow
    place = 0
    while place < len(regex):
        character, size, width = regex[place], 1, 1
        if character == "\\":
            named = _NAMED.match(regex, place)
            width = 2 if named is None else len(named[0])
        elif character == "[":
            width = _class_width(regex, place)
        elif character == "(":
            sizes.append([0, 0])
            place += 1
            continue
        elif character == ")" and len(sizes) > 1:
            size = sum(sizes.pop())
        elif counted := _COUNTED.match(regex, place):
            sizes[-1][1] *= max(1, *(int(number or 0) for number in (counted[1], counted[3])))
            place += len(counted[0])
            continue
        sizes[-1] = [sum(sizes[-1]), size]
        place += width
    return sum(map(sum, sizes))


def _class_width(regex: str, start: int) -> int:
    depth, place = 0, start
    while place < len(regex):
        if regex[place] == "\\":
            place += 1
        elif regex[place] == "[":
            depth += 1
        elif regex[place] == "]" and place > start + 1:
            depth -= 1
            if not depth:
                break
        place += 1
    return place + 1 - start


def check_limits(constraint: Constraint) -> None:
    """Refuse what is too large, naming the setting."""
    name, text = constraint.name, written(constraint)
    if len(text) > MAX_TEXT[name]:
        raise SettingsError(f"{name}: {len(text)} characters, at most {MAX_TEXT[name]} are taken", remedy="ask for less at once")
    if constraint.regex is not None:
        _check_regex(name, constraint.regex)
    if constraint.json_schema is not None:
        _check_schemas(name, [constraint.json_schema])
    if constraint.lark is not None:
        _check_schemas(name, _schemas_within(constraint.lark))


def written(constraint: Constraint) -> str:
    """The constraint as one text; equal texts of one kind ask for the same. Raises SettingsError for a schema that is no JSON."""
    if constraint.json_schema is not None:
        try:
            return json.dumps(constraint.json_schema, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as fault:
            raise SettingsError(f"json_schema: not JSON ({fault})") from fault
    if constraint.choices is not None:
        return json.dumps(list(constraint.choices), ensure_ascii=False)
    return constraint.regex or constraint.lark or ""


def _check_regex(name: str, regex: str) -> None:
    length = written_out(regex)
    if length > MAX_REGEX_LENGTH:
        raise SettingsError(
            f"{name}: with its repetitions written out it is {length} long, at most {MAX_REGEX_LENGTH} are taken",
            remedy="repeat less often, or use * and +",
        )


def _check_schemas(name: str, schemas: Sequence[Any]) -> None:
    """All of one constraint together."""
    multiples = set()
    for key, value in _items(list(schemas)):
        if key == "pattern" and isinstance(value, str):
            _check_regex(f"{name}, pattern", value)
        if key == "multipleOf" and isinstance(value, int | float) and value > 0:
            multiples.add(Fraction(str(value)))
    if prod(max(one.numerator, one.denominator) for one in multiples) > MAX_MULTIPLE:
        raise SettingsError(f"{name}, multipleOf: the numbers multiply to more than {MAX_MULTIPLE}", remedy="check multiples afterwards")


def _schemas_within(grammar: str) -> list[Any]:
    """What follows each ``%json``. Refuses what is no JSON, since nobody could say what it asks for."""
    found = []
    for place in _EMBEDDED.finditer(grammar):
        try:
            found.append(json.JSONDecoder().raw_decode(grammar, place.end())[0])
        except (ValueError, RecursionError) as fault:
            raise SettingsError(f"lark: %json is followed by what is no JSON ({fault})") from fault
    return found


def _items(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    rest = [schema]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            yield from value.items()
            rest += value.values()
        elif isinstance(value, list):
            rest += value
