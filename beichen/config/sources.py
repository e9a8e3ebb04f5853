"""Where settings come from: YAML files and ``--a.b value`` words become ``Raw`` values that remember their origin.

YAML follows the 1.2 core rules where 1.1 sets traps: ``1e-3`` is a number, ``no`` and ``on`` are words, ``12:30`` is text; a key
given twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from beichen.errors import SettingsError


@dataclass(frozen=True)
class Raw:
    """One value as written: a scalar, ``list[Raw]`` or ``dict[str, Raw]``; ``origin`` is 'file:line' or the flag."""

    value: Any
    origin: str
    words: bool = False  # straight from the command line: text whose type only the setting knows

    def plain(self) -> Any:
        """The value without origins."""
        if self.words:
            return " ".join(self.value)
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute, emptied)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
     list("-+.0123456789")),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), _first)


def resolves_to_other_than_text(text: str) -> bool:
    """Whether a bare word would be read as a number, a truth value or null."""
    resolvers = _Loader.yaml_implicit_resolvers.get(text[:1], [])
    return any(pattern.match(text) for _, pattern in resolvers)


def read_yaml(path: Path) -> Raw:
    """One recipe file; an empty file is an empty mapping."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as fault:
        raise SettingsError(f"{path}: not UTF-8 text (byte {fault.start})", remedy="save the file as UTF-8") from fault
    except OSError as fault:
        raise SettingsError(f"{path}: cannot be read: {fault.strerror}", remedy="check the path given to --config") from fault
    raw = _compose(text, str(path))
    if raw.value is None:
        return Raw({}, raw.origin)
    if not isinstance(raw.value, dict):
        raise SettingsError(f"{raw.origin}: expected settings as `key: value` lines, got {type(raw.value).__name__}")
    return raw


def _compose(text: str, name: str, *, lines: bool = True) -> Raw:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return Raw(None, name) if node is None else _from_node(loader, node, name, lines)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None) or getattr(fault, "context_mark", None)
        where = f"{name}:{mark.line + 1}" if mark is not None and lines else name
        raise SettingsError(f"{where}: not valid YAML: {getattr(fault, 'problem', None) or fault}") from fault
    finally:
        loader.dispose()


def _from_node(loader: _Loader, node: yaml.Node, name: str, lines: bool) -> Raw:
    origin = f"{name}:{node.start_mark.line + 1}" if lines else name
    if isinstance(node, yaml.MappingNode):
        items: dict[str, Raw] = {}
        for key_node, value_node in node.value:
            at_key = f"{name}:{key_node.start_mark.line + 1}" if lines else name
            key = str(key_node.value)
            if key in items:
                raise SettingsError(f"{at_key}: key '{key}' is given twice", remedy="keep one of the two lines")
            value = _from_node(loader, value_node, name, lines)
            items[key] = Raw(value.value, at_key)
        return Raw(items, origin)
    if isinstance(node, yaml.SequenceNode):
        return Raw([_from_node(loader, item, name, lines) for item in node.value], origin)
    return Raw(loader.construct_object(node), origin)


def read_words(words: Sequence[str]) -> list[tuple[list[str], Raw]]:
    """``--a.b value``, ``--a.b=value`` and ``--files x y`` as (key path, raw words), in order."""
    found: list[tuple[list[str], Raw]] = []
    for word in words:
        if word.startswith("--") and len(word) > 2:
            key, equals, value = word[2:].partition("=")
            found.append((key.split("."), Raw([value] if equals else [], f"--{key}", words=True)))
        elif found:
            found[-1][1].value.append(word)
        else:
            raise SettingsError(f"'{word}' stands alone: expected --key value", remedy="settings are given as --a.b value")
    for path, raw in found:
        if not raw.value:
            raise SettingsError(f"--{'.'.join(path)} has no value", remedy=f"write --{'.'.join(path)} VALUE")
    return found


def parse_word(raw: Raw) -> Raw:
    """Words of the command line as one YAML value, for settings that are sections or lists of sections."""
    return _compose(" ".join(raw.value), raw.origin, lines=False)


def merge(low: Raw, high: Raw) -> Raw:
    """``high`` wins; sections merge key by key, everything else is replaced whole."""
    if not (isinstance(low.value, dict) and isinstance(high.value, dict)):
        return high
    both = {key: merge(low.value[key], high.value[key]) for key in low.value if key in high.value}
    return Raw({**low.value, **high.value, **both}, low.origin or high.origin)
