"""TensorBoard: event files in ``tensorboard/`` of the run's folder, which `tensorboard --logdir` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

FOLDER = "tensorboard"


class TensorBoard:
    """Writes as it goes; what a resumed run repeats replaces what was written before."""

    def __init__(self, folder: Path, first_step: int) -> None:
        again = {"purge_step": first_step + 1, "filename_suffix": f".{first_step}"} if first_step else {}
        self._writer = SummaryWriter(str(folder / FOLDER), **again)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def start(folder: Path, settings: Mapping[str, Any], first_step: int) -> TensorBoard:
    """Into ``folder``; the settings stand beside in settings.yaml."""
    return TensorBoard(folder, first_step)
