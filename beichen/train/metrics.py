"""The metrics file: one JSON object a line, appended as the run goes; the truth that curves and tables are drawn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from beichen.errors import DataError


class MetricsLog:
    """Appends to ``path``; a resumed run first cuts off what lies beyond the step that it resumes from."""

    def __init__(self, path: Path, *, resume_step: int = 0) -> None:
        self.path = path
        kept = [record for record in read_metrics(path) if record["step"] <= resume_step] if path.exists() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        for record in kept:
            self._write(record)
        self._file.flush()

    def add(self, **figures: Any) -> None:
        """Write one record; ``step`` must be among the figures."""
        self._write(figures)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All records. A half-written last line, as a kill leaves it, is dropped; any other bad line is a DataError."""
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a JSON object ({error})", remedy="remove the line or the file") from error
    return records
