"""Which files are read, how, and how often: from names on the command line, or from a file of sources.

A file of sources is a JSON object. TeleChat's weight files are read as they are, ``{"path": weight}``; in place of the weight may stand
an object with the options of ``Source``: ``{"wiki/*.parquet": {"weight": 0.5, "reader": "wikipedia-en"}}``. A path counts from the
file's own folder, or else from the current one. Rule: all faults of the file are named together, before anything is read.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from beichen.data.cleaning import parse_steps
from beichen.data.files import expand_paths, stem_of
from beichen.data.readers import TEXT_UNITS, TextUnit, find_reader
from beichen.errors import BeichenError, DataError, SettingsError, nearest


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files that are read alike and weighted together. ``weight`` counts epochs: 2.0 twice, 0.5 a random half of the documents."""

    name: str
    files: tuple[Path, ...]
    weight: float = 1.0
    reader: str = "text"
    text_key: str | None = None  # the key or column that holds the text
    text_unit: TextUnit | None = None  # how plain text is cut; None: as the reader wants
    encoding: str | None = None  # of text and lines that are not UTF-8
    clean: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.weight, bool) or not isinstance(self.weight, int | float):
            raise SettingsError(f"weight is {self.weight!r}, not a number")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise SettingsError(f"weight {self.weight}: must be above 0; leave the source out instead")
        find_reader(self.reader, self.text_key)
        if self.text_unit is not None and self.text_unit not in TEXT_UNITS:
            raise SettingsError(f"text_unit '{self.text_unit}'{nearest(self.text_unit, TEXT_UNITS)}: one of {', '.join(TEXT_UNITS)}")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise SettingsError(f"encoding '{self.encoding}' is not known") from error
        parse_steps(self.clean)

    def as_dict(self) -> dict[str, Any]:
        """For the description of what was made from it; a file is known by name, size and time."""
        files = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in self.files]
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("files", "clean")}
        return {**options, "clean": list(self.clean), "files": files}


def sources_of_paths(paths: Sequence[str | Path], options: Mapping[str, Any]) -> list[Source]:
    """One source for each name given: a file, a folder, a pattern."""
    names = _names([str(path) for path in paths])
    return [Source(name=name, files=tuple(expand_paths([path])), **options) for name, path in zip(names, paths, strict=True)]


def read_source_file(path: Path, options: Mapping[str, Any]) -> list[Source]:
    """The sources that a JSON file lists; ``options`` holds for those that do not state their own."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a list of sources ({error})", remedy='write {"path": weight, ...}') from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: holds no sources", remedy='write {"path": weight, ...}')
    sources, faults = [], []
    for name, (given, value) in zip(_names(list(content)), content.items(), strict=True):
        stated = dict(value) if isinstance(value, dict) else {"weight": value}
        try:
            sources.append(_source(path.parent, given, name, {**options, **stated}))
        except BeichenError as fault:
            faults.append(f"  '{given}': {fault.args[0]}")
    if faults:
        count = f"{len(faults)} of {len(content)} sources cannot be used"
        raise DataError("\n".join([f"{path}: {count}", *faults]), remedy="correct these lines of the file")
    return sources


def _source(folder: Path, given: str, name: str, stated: Mapping[str, Any]) -> Source:
    known = {field.name for field in fields(Source)} - {"name", "files"}
    for key, value in stated.items():
        if key not in known:
            raise SettingsError(f"unknown option '{key}'{nearest(key, known)}; known: {', '.join(sorted(known))}")
        if key not in ("weight", "clean") and value is not None and not isinstance(value, str):
            raise SettingsError(f"option '{key}' is {value!r}, not a string")
    clean = stated.get("clean", ())
    if isinstance(clean, str) or not all(isinstance(step, str) for step in clean):
        raise SettingsError("option 'clean' is no list of steps")
    return Source(name=name, files=tuple(_files(folder, given)), **{**stated, "clean": tuple(clean)})


def _files(folder: Path, name: str) -> list[Path]:
    try:
        return expand_paths([folder / name])
    except DataError:
        if Path(name).is_absolute() or folder == Path():
            raise
    return expand_paths([name])


def _names(paths: Sequence[str]) -> list[str]:
    """A name for each source, by which phases call it and its folder is called: what can be read of its path, numbered where needed."""
    names: list[str] = []
    for path in paths:
        stem = stem_of(Path(path).name)
        if not re.search(r"\w", stem.replace("*", "")):
            stem = Path(path).parent.name
        name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:60] or "source"
        taken = [other for other in names if other == name or re.fullmatch(re.escape(name) + r"-\d+", other)]
        names.append(f"{name}-{len(taken) + 1}" if taken else name)
    return names
