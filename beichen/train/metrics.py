"""The metrics file: one JSON object a line, appended as the run goes; the truth that curves and tables are drawn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from beichen.errors import DataError
from beichen.util.files import explain_storage_faults, write_atomically


class MetricsLog:
    """Appends to ``path``; a resumed run first cuts off what lies beyond the step that it resumes from."""

    def __init__(self, path: Path, *, resume_step: int = 0) -> None:
        self.path = path
        kept = [record for record in read_metrics(path) if record["step"] <= resume_step] if path.exists() else []
        write_atomically(path, "".join(map(_line, kept)))
        with explain_storage_faults(path):
            self._file = path.open("ab", buffering=0)  # a line that finds no room is not tried again while closing

    def add(self, **figures: Any) -> None:
        """Write one record; ``step`` must be among the figures."""
        with explain_storage_faults(self.path):
            line = _line(figures).encode()
            while line:  # a disk that is almost full takes a part
                line = line[self._file.write(line) :]

    def close(self) -> None:
        self._file.close()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


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
