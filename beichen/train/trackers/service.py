"""What the services share: how they know a run again, by its folder, and the run that takes figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROJECT = "beichen"


class ServiceRun:
    """The run object of a service, which has ``log`` and ``finish``, as a ``Tracker``."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


def run_id(folder: Path) -> str:
    """The same for the same folder on this machine: 16 hexadecimal digits."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
