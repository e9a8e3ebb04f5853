"""Raw values into frozen dataclasses: unknown keys, wrong types and values out of range are gathered and shown together.

A dataclass checks its own ranges in ``__post_init__`` and raises ``SettingsError`` (or ``ConfigError``) that begins with the key;
the reader puts the key path, the file and the line in front.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from beichen.config.kinds import convert, default_of, describe, element_of, is_section, is_sequence, optional_of
from beichen.config.sources import Raw, merge, parse_word, read_words, read_yaml
from beichen.errors import BeichenError, SettingsError, nearest

T = TypeVar("T")
_FAULT = object()  # stands for a value that could not be read; the fault itself is in the list


def parse_settings(
    kind: type[T], words: Sequence[str] = (), files: Sequence[str | Path] = (), *, base: T | None = None, flags: Collection[str] = ()
) -> T:
    """Settings of class ``kind``: its defaults (or ``base``), then the files in order, then ``--a.b value`` words.

    flags: what else may stand on the command line, without dashes; only named when a word is unknown and close to one.
    """
    raw = Raw({}, "")
    for file in files:
        raw = merge(raw, read_yaml(Path(file)))
    reader = _Reader(flags, typed=True)
    for path, value in read_words(words):
        raw = merge(raw, _at_path(kind, path, value))
    settings = reader.section(kind, raw, (), base)
    reader.raise_faults()
    return cast(T, settings)


def read_settings(kind: type[T], values: dict[str, Any], *, name: str = "settings") -> T:
    """Settings from plain values, as ``settings_as_dict`` gives them or a caller writes them; ``name`` stands in messages."""
    reader = _Reader()
    settings = reader.section(kind, _locate(values, name), (), None)
    reader.raise_faults()
    return cast(T, settings)


def _locate(value: Any, name: str) -> Raw:
    if isinstance(value, dict):
        return Raw({str(key): _locate(item, name) for key, item in value.items()}, name)
    if isinstance(value, (list, tuple)):
        return Raw([_locate(item, name) for item in value], name)
    return Raw(value, name)


def _at_path(kind: Any, path: list[str], value: Raw) -> Raw:
    """A mapping with ``value`` at ``path``; an unknown step is left for ``_Reader.section`` to report."""
    section = kind if is_section(kind) else optional_of(kind)
    if not path:
        return parse_word(value) if is_section(section) else value
    types_of = get_type_hints(section) if is_section(section) else {}
    return Raw({path[0]: _at_path(types_of.get(path[0]), path[1:], value)}, "")


class _Reader:
    """One reading; ``faults`` are messages in the order found."""

    def __init__(self, flags: Collection[str] = (), *, typed: bool = False) -> None:
        """typed: whether a command line was read, so that a remedy may name its flags."""
        self._flags, self._typed = flags, typed
        self.faults: list[str] = []

    def raise_faults(self) -> None:
        if len(self.faults) == 1:
            raise SettingsError(self.faults[0])
        if self.faults:
            raise SettingsError("\n  ".join(["several settings are wrong:", *self.faults]))

    def fault(self, origin: str, message: str) -> object:
        """Notes one fault; ``--a.b: a.b: ...`` would say its key twice."""
        if origin.startswith("--"):
            message = message.removeprefix(f"{origin[2:]}: ")
        self.faults.append(f"{origin}: {message}" if origin else message)
        return _FAULT

    def section(self, kind: type, raw: Raw, path: tuple[str, ...], base: Any) -> Any:
        """A dataclass from a mapping; keys not given come from ``base`` if there is one, else from the defaults."""
        if not isinstance(raw.value, dict):
            return self.fault(raw.origin, f"{'.'.join(path)}: expected a section of keys, got {raw.plain()!r}")
        types_of = get_type_hints(kind)
        known = {field.name: field for field in fields(kind) if field.init}
        before = len(self.faults)
        for key, item in raw.value.items():
            if key not in known:
                where = f" in '{'.'.join(path)}'" if path else ""
                near = nearest(key, [*known, *self._flags] if item.origin.startswith("--") and not path else known)
                self.fault(item.origin, f"unknown key '{key}'{where}{near}; valid keys: {', '.join(known)}")
        values: dict[str, Any] = {}
        for name, field in known.items():
            here = (*path, name)
            default = default_of(field) if base is None else getattr(base, name)
            if name in raw.value:
                values[name] = self.value(types_of[name], raw.value[name], here, default)
            elif default is not MISSING:
                values[name] = default
            elif is_section(types_of[name]):
                values[name] = self.section(types_of[name], Raw({}, raw.origin), here, None)
            else:
                key = ".".join(here)
                where = f" (in the recipe, or --{key} VALUE)" if self._typed else ""
                self.fault(raw.origin, f"{key} is not set: expected {describe(types_of[name])}{where}")
        if len(self.faults) > before:
            return _FAULT
        try:
            return kind(**values)
        except BeichenError as fault:
            return self.out_of_range(fault, kind, raw, path)

    def out_of_range(self, fault: BeichenError, kind: type, raw: Raw, path: tuple[str, ...]) -> object:
        """A complaint of ``__post_init__``, which begins with its key, with path and origin in front."""
        message = str(fault.args[0]) + (f"; {fault.remedy}" if fault.remedy else "")
        section = ".".join(path)
        message = message.removeprefix(f"{section}.") if section else message
        first = re.match(r"\w+", message)
        is_key = first is not None and first.group() in {field.name for field in fields(kind)}
        item = raw.value.get(first.group()) if first else None
        if item is None:  # of the keys that it speaks of, the one that was typed: it changed last
            typed = [value for key, value in raw.value.items() if value.origin.startswith("--") and re.search(rf"\b{key}\b", message)]
            item = typed[-1] if typed else None
        prefix = "" if not section or message.startswith(section) else f"{section}." if is_key else f"{section}: "
        return self.fault(item.origin if item is not None else raw.origin, prefix + message)

    def value(self, kind: Any, raw: Raw, path: tuple[str, ...], default: Any) -> Any:
        """One key's value: a section, a list of sections, or a leaf."""
        inner = optional_of(kind)
        if inner is not None and is_section(inner):
            return None if raw.value is None else self.section(inner, raw, path, default if is_section(type(default)) else None)
        if is_section(kind):
            return self.section(kind, raw, path, None if default is MISSING else default)
        if raw.words and is_sequence(kind):
            as_yaml = raw.value[0].startswith("[") or raw.value == ["null"]
            raw = parse_word(raw) if as_yaml else Raw([Raw(word, raw.origin) for word in raw.value], raw.origin)
        element = element_of(inner if inner is not None else kind)
        if element is not None and is_section(element) and isinstance(raw.value, list):
            items = [self.section(element, item, (*path[:-1], f"{path[-1]}[{i}]"), None) for i, item in enumerate(raw.value)]
            return _FAULT if _FAULT in items else tuple(items)
        try:
            return convert(kind, raw)
        except ValueError:
            return self.fault(raw.origin, f"{'.'.join(path)}: expected {describe(kind)}, got {raw.plain()!r}")
