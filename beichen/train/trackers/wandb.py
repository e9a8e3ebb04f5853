"""Weights & Biases: the run under its folder's name. Sign in once with the service's own command, or set its variable for offline use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beichen.errors import MissingExtraError
from beichen.train.trackers.identity import PROJECT, run_id


class WeightsAndBiases:
    """One run of the service; a resumed run goes on with it."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError("wandb", extra="wandb", purpose="trackers: wandb") from error
        self._run = wandb.init(
            project=PROJECT, name=folder.name, dir=str(folder), config=dict(settings), id=run_id(folder), resume="allow"
        )  # fmt: skip

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


def start(folder: Path, settings: Mapping[str, Any], first_step: int) -> WeightsAndBiases:
    """Raises MissingExtraError where the package is not installed."""
    return WeightsAndBiases(folder, settings)
