"""Where a run's figures go besides ``metrics.jsonl``, which stays the truth: one file a service, one line here.

Each module offers ``start(folder, settings, first_step) -> Tracker``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from beichen.errors import SettingsError, nearest

TRACKERS = {
    "tensorboard": "beichen.train.trackers.tensorboard",
    "wandb": "beichen.train.trackers.wandb",
    "swanlab": "beichen.train.trackers.swanlab",
}


class Tracker(Protocol):
    """Takes figures by name as they come; a resumed run begins one anew at the step that it goes on from."""

    def add(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def check_names(names: Sequence[str]) -> None:
    """Raises SettingsError with the known ones."""
    for name in names:
        if name not in TRACKERS:
            raise SettingsError(f"trackers: '{name}' is not known{nearest(name, TRACKERS)}; known: {', '.join(TRACKERS)}")


def start_trackers(names: Sequence[str], folder: Path, settings: Mapping[str, Any], *, first_step: int = 0) -> list[Tracker]:
    """Those that are asked for. Raises MissingExtraError for a package that is not installed."""
    check_names(names)
    return [import_module(TRACKERS[name]).start(folder, settings, first_step) for name in names]


def numbers(record: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Every number of a record by its path: ``held_out/zh/loss``. Texts and lists are left out."""
    found: dict[str, float] = {}
    for key, value in record.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= numbers(value, f"{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and key != "step":
            found[name] = float(value)
    return found
