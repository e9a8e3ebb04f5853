"""The metrics file: one JSON object a line, appended as the run goes; the truth that curves and tables are drawn from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from beichen.errors import DataError, StorageError
from beichen.train.trackers import Tracker, numbers
from beichen.util.files import write_atomically
from beichen.util.patient_file import PatientFile
from beichen.util.progress import SILENT, Reporter

CLOCK = ("seconds", "tokens_per_second", "gflops", "share_of_peak", "memory_bytes")  # figures that no two runs have in common


class MetricsLog:
    """Appends to ``path`` until it is closed (``with``); a resumed run first cuts off what lies beyond the step that it resumes from."""

    def __init__(
        self, path: Path, *, resume_step: int = 0, reporter: Reporter = SILENT, trackers: Sequence[Tracker] = ()
    ) -> None:  # fmt: skip
        """``trackers`` get the numbers of every record too, and are closed with the file."""
        self.path, self._reporter, self._trackers = path, reporter, trackers
        self._open(resume_step)

    def add(self, **figures: Any) -> None:
        """Write one record; ``step`` must be among the figures. What a full disk does not take is written with a later record."""
        for tracker in self._trackers:
            tracker.add(figures["step"], numbers(figures))
        late = bool(self._file.waiting)
        try:
            self._file.add(_line(figures).encode())
        except StorageError as fault:
            if not late:
                self._reporter.warn(f"records wait in memory, training goes on: {fault}")

    def cut(self, step: int) -> None:
        """Take out what lies beyond a step that the run goes back to."""
        self._file.close()
        self._open(step)

    def close(self) -> None:
        """Records that still find no room are lost, which is a warning: what was trained is not."""
        try:
            self._file.close()
        except StorageError as fault:
            lost = self._file.waiting.count(b"\n")
            self._reporter.warn(f"the last {lost} records found no room and are lost, the training is not: {fault}")
        finally:
            for tracker in self._trackers:
                tracker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    def _open(self, last_step: int) -> None:
        kept = [record for record in read_metrics(self.path) if record["step"] <= last_step] if self.path.exists() else []
        write_atomically(self.path, "".join(map(_line, kept)))
        self._file = PatientFile(self.path)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def read_steps(path: Path) -> list[dict[str, Any]]:
    """The records of steps that moved the weights: what curves are drawn from."""
    return [record for record in read_metrics(path) if "loss" in record]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All records. A half-written last line, as a kill leaves it, is dropped; any other bad line is a DataError."""
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a JSON object ({error})", remedy="remove the line or the file") from error
        if not isinstance(record, dict) or "step" not in record:
            raise DataError(f"{path}:{number}: not a record of a step", remedy="remove the line or the file")
        records.append(record)
    return records
