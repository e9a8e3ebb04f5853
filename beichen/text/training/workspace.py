"""What a training has done so far, on disk: a journal, the runs it names, and the merges learnt.

A line of the journal is written after the files that it names are safe, so a process killed at any moment finds, when it starts again,
exactly the texts counted that the runs hold. Files that no line names are leftovers and are removed. Another input or another
pattern begins anew; other merge settings keep the counts.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beichen.text.training.learning import Pair
from beichen.util.files import explain_storage_faults, prepare_folder
from beichen.util.progress import Reporter

_FORMAT = 1
_MERGE = struct.Struct("<2I")


@dataclass
class Progress:
    """How far counting has come."""

    source: int = 0  # sources before this one are counted
    text: int = 0  # and so many texts of this one
    texts: int = 0  # of all
    bytes: int = 0
    runs: list[str] = field(default_factory=list)
    complete: bool = False  # every text is counted and the runs are one: the words
    learning: dict[str, Any] | None = None  # what the merges on disk were learnt with


class Workspace:
    """The folder of one training; one process at a time (the caller holds the lock)."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], reporter: Reporter) -> None:
        """``settings``: what the counts depend on."""
        self.folder = prepare_folder(folder)
        self._journal, self._merges = folder / "journal.jsonl", folder / "merges.bin"
        self.words, self.histogram = folder / "words.run", folder / "histogram.bin"
        head = json.loads(json.dumps({"format": _FORMAT, **settings}))
        lines = self._lines()
        self.resumed = bool(lines) and lines[0] == head
        if lines and not self.resumed:
            reporter.warn(f"{folder}: left by a training with another input or pattern; it begins anew")
        if not self.resumed:
            lines = []
            self._clear()
            self._append(head)
        self.progress = Progress()
        for line in lines[1:]:
            self._apply(line)
        self._remove_leftovers()

    def _apply(self, line: Mapping[str, Any]) -> None:
        if "combined" in line:
            self.progress.runs = [name for name in self.progress.runs if name not in line["combined"]] + [line["into"]]
        for key in ("source", "text", "texts", "bytes", "complete", "learning"):
            if key in line:
                setattr(self.progress, key, line[key])
        self.progress.runs += line.get("runs", [])

    def counted(self, *, source: int, text: int, texts: int, bytes_: int, runs: Sequence[str]) -> None:
        """So many texts are in runs that are safe on disk."""
        self._note({"source": source, "text": text, "texts": texts, "bytes": bytes_, "runs": list(runs)})

    def combined(self, runs: Sequence[str], into: str) -> None:
        """These runs are one now."""
        self._note({"combined": list(runs), "into": into})
        self._remove_leftovers()

    def complete(self) -> None:
        """All runs are one: ``words``, with its ``histogram``."""
        self._note({"combined": list(self.progress.runs), "into": self.words.name, "complete": True})
        self._remove_leftovers()

    def begin_learning(self, settings: Mapping[str, Any]) -> list[Pair]:
        """The merges that were learnt with these settings already."""
        wanted = json.loads(json.dumps(settings))
        if self.progress.learning != wanted:
            self._merges.unlink(missing_ok=True)
            self._note({"learning": wanted})
        data = self._merges.read_bytes() if self._merges.exists() else b""
        whole = len(data) - len(data) % _MERGE.size
        if whole < len(data):
            os.truncate(self._merges, whole)
        return [(left, right) for left, right in _MERGE.iter_unpack(data[:whole])]

    def learnt(self, pairs: Sequence[Pair]) -> None:
        """Further merges."""
        with explain_storage_faults(self._merges), self._merges.open("ab") as file:
            file.write(b"".join(_MERGE.pack(*pair) for pair in pairs))

    def path(self, name: str) -> Path:
        """Where a run stands."""
        return self.folder / name

    def _note(self, line: Mapping[str, Any]) -> None:
        self._append(line)
        self._apply(line)

    def _append(self, line: Mapping[str, Any]) -> None:
        with explain_storage_faults(self._journal), self._journal.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        """The whole lines; what a kill cut short is cut off."""
        if not self._journal.exists():
            return []
        data = self._journal.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self._journal, whole)
        return [json.loads(line) for line in data[:whole].splitlines()]

    def _clear(self) -> None:
        for pattern in ("*.run", "*.partial", "histogram.bin", "merges.bin", "journal.jsonl"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def _remove_leftovers(self) -> None:
        for path in (*self.folder.glob("*.run"), *self.folder.glob("*.partial")):
            if path.name not in self.progress.runs:
                path.unlink()
