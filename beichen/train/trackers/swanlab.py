"""SwanLab: the run under its folder's name. Sign in once with the service's own command, or set its variable for offline use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beichen.errors import MissingExtraError
from beichen.train.trackers.service import PROJECT, ServiceRun, run_id


def start(folder: Path, settings: Mapping[str, Any], first_step: int) -> ServiceRun:
    """A resumed run goes on with its own. Raises MissingExtraError where the package is not installed."""
    try:
        import swanlab
    except ImportError as error:
        raise MissingExtraError("swanlab", extra="swanlab", purpose="trackers: swanlab") from error
    options: dict[str, Any] = {"config": dict(settings), "id": run_id(folder), "resume": "allow"}
    return ServiceRun(swanlab.init(project=PROJECT, name=folder.name, log_dir=str(folder / "swanlab"), **options))
