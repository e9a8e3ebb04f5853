"""``StateKeeper``: the state of a run on disk: when it is saved, what happens when it cannot be, how a run goes on from it.

In: the parts that have tensors (the optimizer and others), and the loop's own state. Out: both again, bit for bit, after whatever
stopped the run. Rule: a save that finds no room costs nothing but itself: the last good state stands, training goes on, and a later save
tries again.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from beichen.checkpoints.fingerprints import BaseRecord
from beichen.checkpoints.training_state import load_training_state, save_training_state
from beichen.errors import CheckpointError, StorageError
from beichen.nn import kernels
from beichen.train.loop_state import LoopState
from beichen.train.settings import CheckpointSettings
from beichen.util.machine import processor_name
from beichen.util.progress import Reporter

RETRY_SECONDS = 30.0  # after a save that failed


class Stateful(Protocol):
    """A part of a run whose tensors a resumed run needs."""

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Take over what ``state`` gave. steps: updates so far. Raises CheckpointError where something is missing or does not fit."""


class StateKeeper:
    """Saves into ``folder`` and restores from it."""

    def __init__(
        self, folder: Path, parts: Sequence[Stateful], settings: CheckpointSettings, reporter: Reporter, *, base: BaseRecord | None = None
    ) -> None:  # fmt: skip
        """base: the frozen model beneath what ``parts`` hold; a state goes with it alone."""
        self._folder, self._parts, self._settings, self._reporter = folder, parts, settings, reporter
        self._base = {} if base is None else {"folder": base.folder, "sha256": base.sha256}
        self._saved_at = time.monotonic()
        self._failed_at: float | None = None

    def save_if_due(self, state: LoopState) -> None:
        """After a step. A full disk is a warning here, not an end."""
        now = time.monotonic()
        if self._failed_at is None:
            by_step = self._settings.every_steps is not None and state.step % self._settings.every_steps == 0
            due = by_step or now - self._saved_at > 60.0 * self._settings.every_minutes
        else:
            due = now - self._failed_at > RETRY_SECONDS
        if not due:
            return
        try:
            self.save(state)
        except StorageError as fault:
            self._failed_at = time.monotonic()
            self._reporter.warn(f"step {state.step} could not be saved, training goes on and tries again: {fault}")

    def save(self, state: LoopState) -> None:
        """Write all; raises StorageError when that fails, with the last good state untouched."""
        tensors: dict[str, Tensor] = {}
        for part in self._parts:
            tensors |= part.state()
        values = {"loop": dataclasses.asdict(state), "machine": machine_facts(), "base": self._base}
        save_training_state(
            self._folder, state.step, tensors, values, keep=self._settings.keep, keep_every=self._settings.keep_every
        )  # fmt: skip
        self._saved_at, self._failed_at = time.monotonic(), None

    def restore(self) -> LoopState | None:
        """The newest good state, back in the parts; None where none was saved. What computes otherwise than before is named.

        Raises CheckpointError where the frozen model is not the one of that state.
        """
        saved = load_training_state(self._folder, reporter=self._reporter)
        if saved is None:
            return None
        _check_base(saved.values.get("base", {}), self._base, self._folder)
        state = LoopState(**saved.values["loop"])
        for part in self._parts:
            part.load_state(saved.tensors, state.updates)
        if differences := _differences(saved.values["machine"], machine_facts()):
            self._reporter.warn(
                f"goes on otherwise than it began ({differences}): sums round differently, so not to the last bit as one run"
            )
        return state

    def remove(self) -> None:
        """A finished run needs no state; what ``checkpoint.keep_every`` keeps stays."""
        if self._settings.keep_every is None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _check_base(before: Mapping[str, str], now: Mapping[str, str], state: Path) -> None:
    if before and before["sha256"] != now.get("sha256"):
        raise CheckpointError(
            f"{state}: the run was begun on the base {before['folder']}, whose weights had SHA-256 {before['sha256'][:12]}...; "
            f"those of {now.get('folder')} have {now.get('sha256', '')[:12]}...",
            remedy="name that base in model.start_from, or start anew in another folder",
        )


def machine_facts() -> dict[str, Any]:
    """What the last bit of a sum may depend on."""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": processor_name(),
        "kernels": kernels.status().available,
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {before.get(name)} before, {value} now" for name, value in now.items() if before.get(name) != value)
