"""Weights & Biases: the run under its folder's name. Sign in once with the service's own command, or set its variable for offline use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beichen.errors import MissingExtraError
from beichen.train.trackers.service import PROJECT, ServiceRun, run_id


def start(folder: Path, settings: Mapping[str, Any], first_step: int) -> ServiceRun:
    """A resumed run goes on with its own. Raises MissingExtraError where the package is not installed."""
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError("wandb", extra="wandb", purpose="trackers: wandb") from error
    options: dict[str, Any] = {"config": dict(settings), "id": run_id(folder), "resume": "allow"}
    return ServiceRun(wandb.init(project=PROJECT, name=folder.name, dir=str(folder), **options))
