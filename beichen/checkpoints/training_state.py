"""Training state on disk: one folder ``step-000123`` per saved step under a run's folder, whole or not there, with digests.

In: a table of tensors (weights, masters, moments) and a table of plain values (step, cursor, seeds). Out: the same, bit for bit,
from the newest folder that is undamaged. Old ones are removed only after a new one is complete.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from beichen.checkpoints.digests import verify_digests, write_digests
from beichen.checkpoints.reading import read_json
from beichen.checkpoints.safetensors_writing import planned, write_safetensors
from beichen.errors import CheckpointError
from beichen.util.files import explain_storage_faults, write_folder_atomically
from beichen.util.progress import SILENT, Reporter

TENSORS, VALUES = "tensors.safetensors", "values.json"
VERSION = 1
_STEP = re.compile(r"^step-(\d+)$")


class TrainingState(NamedTuple):
    """What a run needs to go on as if it had never stopped."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def step_folder(run: Path, step: int) -> Path:
    """Where the state of a step stands."""
    return run / f"step-{step:06d}"


def save_training_state(
    run: Path | str, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, keep: int = 2, keep_every: int | None = None
) -> Path:
    """Write the state of ``step``, then remove older ones but for ``keep`` in all, and multiples of ``keep_every``.  -> its folder"""
    if keep < 1:
        raise ValueError(f"keep={keep}: at least the state just written is kept")
    run = Path(run)
    folder = step_folder(run, step)
    text = json.dumps({"version": VERSION, "step": step, "values": values}, indent=1, ensure_ascii=False, allow_nan=True)
    with write_folder_atomically(folder, obsolete=lambda name: True) as inside:
        digest = write_safetensors(inside / TENSORS, {name: planned(tensor) for name, tensor in tensors.items()})
        (inside / VALUES).write_text(text + "\n", encoding="utf-8")
        write_digests(inside, {TENSORS: digest})
    kept = keep_every or step + 1  # no step below this one is a multiple of it
    older = [  # a newer one was damaged and passed over, or it would be resumed
        path for saved, path in saved_steps(run) if saved < step and (saved == 0 or saved % kept)
    ]
    for path in older[keep - 1 :]:
        with explain_storage_faults(path):
            shutil.rmtree(path)
    return folder


def saved_steps(run: Path | str) -> list[tuple[int, Path]]:
    """All saved steps of a run, newest first, damaged ones included."""
    run = Path(run)
    if not run.is_dir():
        return []
    found = [(int(match.group(1)), path) for path in run.iterdir() if path.is_dir() and (match := _STEP.match(path.name))]
    return sorted(found, reverse=True)


def latest_complete(run: Path | str, *, reporter: Reporter = SILENT) -> Path | None:
    """The newest undamaged state; each damaged one that is passed over is named in a warning."""
    for _, folder in saved_steps(run):
        try:
            faults = verify_digests(folder)
        except CheckpointError as error:
            faults = [str(error.args[0])]
        if not faults:
            return folder
        reporter.warn(f"{folder}: damaged, passed over ({'; '.join(faults)})")
    return None


def load_training_state(run: Path | str, *, reporter: Reporter = SILENT) -> TrainingState | None:
    """The newest undamaged state of a run, on the CPU; None where no step was saved; an error where all are damaged."""
    folder = latest_complete(run, reporter=reporter)
    if folder is None:
        if saved := saved_steps(run):
            names = ", ".join(path.name for _, path in saved)
            raise CheckpointError(f"{run}: every saved step is damaged ({names})", remedy="start the run anew in another folder")
        return None
    table = read_json(folder / VALUES)
    if table.get("version") != VERSION:
        raise CheckpointError(f"{folder / VALUES}: version {table.get('version')!r}, this Beichen reads {VERSION}")
    try:
        tensors = load_file(folder / TENSORS)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / TENSORS}: cannot be read ({error})") from error
    return TrainingState(step=table["step"], tensors=tensors, values=table["values"])
