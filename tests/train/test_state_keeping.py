"""``StateKeeper``: whatever fails while a state is saved, a run goes on from this state or from the one before, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.checkpoints.digests import write_digests
from beichen.errors import StorageError
from beichen.objectives.next_token import next_token
from beichen.train.loop_state import LoopState
from beichen.train.optimizers import Optimizer
from beichen.train.settings import CheckpointSettings, OptimizerSettings
from beichen.train.state_keeping import StateKeeper
from beichen.train.step import gather
from beichen.util.progress import SilentReporter
from tests.failing_disk import failing_disk
from tests.full_disk import full_disk
from tests.train.small_runs import RandomBatches, tiny_decoder


class Said(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Trained:
    """An optimizer that takes steps, and its keeper."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.decoder = tiny_decoder()
        self.optimizer = Optimizer(self.decoder, OptimizerSettings())
        self.said, self.state = Said(), LoopState()
        self.keeper = StateKeeper(folder, [self.optimizer], CheckpointSettings(**settings), self.said)

    def step(self) -> None:
        gathered = gather(self.decoder, RandomBatches().micro_batches(self.state.step), next_token, seed=0, step=self.state.step)
        self.optimizer.step(1.0, gathered.target_weight)
        self.state.take(gathered, 0.25)

    def tensors(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.optimizer.state().items()}


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("again", [False, True])
def test_whichever_operation_of_a_save_fails_the_run_goes_on(tmp_path, keep, again):
    """The n-th write, flush, sync, rename, ... for every n. ``again``: the failed save is tried once more, and succeeds."""
    known: dict[int, tuple[LoopState, dict[str, Tensor]]] = {}
    failed: dict[str, int] = {}
    number = 0
    while True:
        number += 1
        run = Trained(tmp_path / f"{number}", keep=keep)
        for step in (1, 2, 3):
            run.step()
            known[step] = (replace(run.state), run.tensors())
            if step < 3:
                run.keeper.save(run.state)
        with failing_disk(number) as disk:
            try:
                run.keeper.save(run.state)
            except StorageError:
                failed[str(disk.failed)] = failed.get(str(disk.failed), 0) + 1
        if again:
            run.keeper.save(run.state)
        resumed = Trained(tmp_path / f"{number}", keep=keep)
        state = resumed.keeper.restore()
        assert state is not None and state.step in ((3,) if again else (2, 3)), (number, disk.failed)
        wanted, tensors = known[state.step]
        assert state == wanted and equal(resumed.tensors(), tensors), (number, disk.failed)
        assert not resumed.said.warnings
        resumed.state = state
        while resumed.state.step < 3:
            resumed.step()
        assert equal(resumed.tensors(), known[3][1])
        if disk.failed is None:
            break
    assert {"write", "flush", "sync", "rename", "new folder"} <= failed.keys() and sum(failed.values()) >= 10, failed


def test_a_save_that_finds_no_room_is_tried_again_and_training_goes_on(tmp_path, monkeypatch):
    run = Trained(tmp_path, every_steps=1, keep=9)
    run.step()
    run.keeper.save_if_due(run.state)
    with full_disk(100):
        for _ in range(3):
            run.step()
            run.keeper.save_if_due(run.state)
    assert len(run.said.warnings) == 1 and "step 2 could not be saved, training goes on" in run.said.warnings[0]
    monkeypatch.setattr("beichen.train.state_keeping.RETRY_SECONDS", 0.0)
    run.step()
    run.keeper.save_if_due(run.state)
    run.step()
    run.keeper.save_if_due(run.state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000005", "step-000006"]


def test_the_newest_and_every_nth_are_kept(tmp_path):
    run = Trained(tmp_path, every_steps=1, keep=2, keep_every=4)
    for _ in range(11):
        run.step()
        run.keeper.save_if_due(run.state)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"step-{step:06d}" for step in (4, 8, 10, 11)]
    run.keeper.remove()
    assert tmp_path.exists(), "what is kept for good outlives the run"


def test_what_computes_otherwise_is_named(tmp_path):
    run = Trained(tmp_path)
    run.step()
    run.keeper.save(run.state)
    (folder,) = tmp_path.iterdir()
    values = json.loads((folder / "values.json").read_text())
    values["values"]["machine"] |= {"threads": 77, "processor": "another one"}
    (folder / "values.json").write_text(json.dumps(values))
    write_digests(folder)
    again = Trained(tmp_path)
    assert again.keeper.restore() == run.state
    (warning,) = again.said.warnings
    assert "threads: 77 before" in warning and "processor: another one before" in warning and "torch" not in warning
