"""``AnswersFile``: the answers to many questions, kept as they come, written in the order of the questions when all are there.

Answers end in another order than they are asked in. So they are kept in a journal beside the output, ``NAME.partial``, a line each with the
question's place and print; the output itself appears whole, at the end, and what could not be answered in ``NAME.faults.jsonl`` beside it.
Rule: whoever is killed at any instant and starts again with the same questions and settings loses nothing that the journal holds and
computes nothing twice; other settings and changed questions are named, never mixed. One process at a time writes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from beichen.errors import SettingsError, StorageError
from beichen.util.files import explain_storage_faults, write_atomically
from beichen.util.patient_file import PatientFile
from beichen.util.progress import SILENT, Reporter

VERSION = 1


class AnswersFile:
    """``with AnswersFile(output, settings) as answers:``, then ``check`` every question, ``add`` every answer, ``finish`` once."""

    def __init__(self, output: Path, settings: Mapping[str, Any], *, reporter: Reporter = SILENT) -> None:
        """settings: all that answers depend on besides the question. Raises SettingsError where the journal was begun with others."""
        self.output = output
        self.journal = journal_of(output)
        self.faults = output.with_name(output.name.removesuffix(".jsonl") + ".faults.jsonl")
        self._settings = json.loads(json.dumps(settings, ensure_ascii=False))
        self._reporter = reporter
        self._known: dict[int, tuple[str, int, int]] = {}  # of each question: its print, and where its line stands in the journal
        self._unanswered: dict[int, str] = {}  # why some of them have no answer

    def __enter__(self) -> AnswersFile:
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            self._file = PatientFile(self.journal)
            undo.callback(self._file.close)
            undo.callback(os.close, _lock(self.journal))
            self._end = self._read()
            if not self._end:
                self._add({"version": VERSION, "settings": self._settings})
            self._undo = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        """A journal of no question at all is nothing to go on from, and goes."""
        with self._undo:
            if not self._known:
                self.journal.unlink(missing_ok=True)

    def __len__(self) -> int:
        """How many questions are done."""
        return len(self._known)

    def holds(self, place: int, question: Mapping[str, Any]) -> bool:
        """Whether a question is done. Raises SettingsError where another one stood at its place."""
        known = self._known.get(place)
        if known is not None and known[0] != question_print(question):
            raise SettingsError(
                f"{self.journal}: question {place + 1} has changed since it was answered",
                remedy=f"give back the questions as they were, or remove {self.journal.name} to answer all anew",
            )
        return known is not None

    def fault_of(self, place: int) -> str | None:
        """Why a question that is done has no answer; ``None`` where it has one."""
        return self._unanswered.get(place)

    def add(
        self, place: int, question: Mapping[str, Any], *, answer: Mapping[str, Any] | None = None, fault: Mapping[str, Any] | None = None
    ) -> None:
        """Keep an answer, or why there is none: a ``fault`` in words, under that name, and where it stands."""
        entry = {"place": place, "print": question_print(question)}
        begin = self._end
        self._add({**entry, "answer": answer} if fault is None else {**entry, **fault, "question": question})
        self._known[place] = str(entry["print"]), begin, self._end - begin
        if fault is not None:
            self._unanswered[place] = str(fault["fault"])

    def finish(self, unread: Sequence[tuple[int, Mapping[str, Any]]] = ()) -> int:
        """All questions are done: the output appears, the journal goes. unread: faults of what is no question at all, each with the place
        of the question behind it.  -> how many have no answer"""
        faults: list[tuple[int, Mapping[str, Any]]] = list(unread)

        def write(out: BinaryIO) -> None:
            with self.journal.open("rb") as journal:
                for place in sorted(self._known):
                    _, begin, size = self._known[place]
                    journal.seek(begin)
                    entry = json.loads(journal.read(size))
                    if "fault" in entry:
                        faults.append((place, {key: value for key, value in entry.items() if key not in ("place", "print")}))
                    else:
                        out.write(_line(entry["answer"]))

        write_atomically(self.output, write)
        if faults:
            faults.sort(key=lambda one: one[0])  # one that is no question stands before the one of its place, and came first
            write_atomically(self.faults, b"".join(_line(fault) for _, fault in faults))
        else:
            with explain_storage_faults(self.faults):
                self.faults.unlink(missing_ok=True)  # of an earlier run
        with explain_storage_faults(self.journal):
            self.journal.unlink()
        return len(faults)

    def _add(self, entry: Mapping[str, Any]) -> None:
        line = _line(entry)
        self._file.add(line)
        self._end += len(line)

    def _read(self) -> int:
        """Take up what the journal holds; the beginning of a line at its end is what a killed process could not finish.  -> its size"""
        end = begin = 0
        with self.journal.open("rb") as journal:
            for number, line in enumerate(journal):
                begin, end = end, end + len(line)
                if not line.endswith(b"\n"):
                    end = begin
                    break
                if number == 0:
                    self._check_head(line)
                    continue
                try:
                    entry = json.loads(line)
                    self._known[entry["place"]] = entry["print"], begin, len(line)
                    if "fault" in entry:
                        self._unanswered[entry["place"]] = str(entry["fault"])
                except (ValueError, KeyError, TypeError):  # what a machine without power leaves
                    self._reporter.warn(f"{self.journal}:{number + 1}: damaged; its question is asked again")
        with explain_storage_faults(self.journal):
            os.truncate(self.journal, end)
        return end

    def _check_head(self, line: bytes) -> None:
        try:
            head = json.loads(line)
            then = head["settings"]
        except (ValueError, KeyError, TypeError) as fault:
            raise StorageError(f"{self.journal}: no journal of answers", remedy="choose another --output, or remove it") from fault
        if head.get("version") != VERSION:
            raise StorageError(f"{self.journal}: written by another version of Beichen", remedy="finish it with that, or remove it")
        changed = [key for key in {**then, **self._settings} if then.get(key) != self._settings.get(key)]
        if changed:
            words = ", ".join(f"{key} was {_shown(then.get(key))} and is {_shown(self._settings.get(key))}" for key in changed)
            raise SettingsError(
                f"{self.journal}: begun with other settings: {words}",
                remedy=f"go on with the same, choose another --output, or remove {self.journal.name} to answer all anew",
            )


def journal_of(output: Path) -> Path:
    """Where the answers stand until all are there."""
    return output.with_name(output.name + ".partial")


def question_print(question: Mapping[str, Any]) -> str:
    """16 letters that tell a question from others."""
    text = json.dumps(question, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _line(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, ensure_ascii=False, default=str)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can say
        return json.dumps(entry, default=str).encode() + b"\n"


def _shown(value: Any) -> str:
    return "not given" if value is None else json.dumps(value, ensure_ascii=False)


def _lock(path: Path) -> int:
    """The system's lock on a file, which ends with its process."""
    import fcntl  # late: the rest of this file also serves systems without it

    file = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        os.close(file)
        raise StorageError(
            f"{path} is being written by another process", remedy="wait until it has ended, or choose another --output"
        ) from fault
    return file
