"""The loop: n steps are m steps, a stop and the rest; micro-batches are one batch; what a step does follows from its number."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.data.batch import Batch
from beichen.errors import DataError, DivergenceError
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.objectives.next_token import next_token
from beichen.objectives.types import LossSum, Scored
from beichen.train.guards import GuardSettings
from beichen.train.loop import BatchSource, Course, LoopResult, Recording, progress_of, run_loop
from beichen.train.loop_state import LoopState
from beichen.train.metrics import CLOCK, MetricsLog, read_metrics
from beichen.train.optimizers import Optimizer
from beichen.train.schedules import rate_factor
from beichen.train.settings import BudgetSettings, OptimizerSettings, ScheduleSettings
from beichen.train.step_figures import StepFigures
from beichen.util.progress import SILENT
from tests.train.small_runs import RandomBatches, tiny_decoder


def warmed_up(step: int, progress: float, tokens: int) -> float:
    return rate_factor(ScheduleSettings(warmup=0.2), progress)


class Run:
    """A decoder with its optimizer and state, and everything ``run_loop`` saved."""

    def __init__(
        self, folder: Path, kind: Any = "muon", *, guards: GuardSettings | None = None, every: int | None = None, **sizes: Any
    ) -> None:
        self.decoder = tiny_decoder(**sizes)
        self.optimizer = Optimizer(self.decoder, OptimizerSettings(name=kind))
        self.state, self.folder = LoopState(), folder
        self.guards, self.every = guards or GuardSettings(), every
        self.saved: list[tuple[LoopState, dict[str, Tensor]]] = []

    def go(
        self, source: BatchSource | None = None, *, steps: int = 12, stop_in_step: int | None = None, **limits: Any
    ) -> LoopResult:  # fmt: skip
        """``stop_in_step``: Ctrl-C arrives while that step is computed."""
        calls = 0

        def objective(decoder: Decoder, batch: Scored) -> LossSum:
            nonlocal calls
            calls += 1
            if self.state.step + 1 == stop_in_step:
                signal.raise_signal(signal.SIGINT)
            return next_token(decoder, batch)

        figures = StepFigures(learning_rate=0.02, flops_per_token=1e5, steps_per_epoch=10.0)
        budget = BudgetSettings(steps=None if limits else steps, **limits)
        with MetricsLog(self.folder / "metrics.jsonl", resume_step=self.state.step) as metrics:
            return run_loop(
                self.decoder, source or RandomBatches(), objective, self.optimizer, state=self.state, keeper=self,
                course=Course(budget=budget, rate=warmed_up, guards=self.guards),
                recording=Recording(figures=figures, metrics=metrics, reporter=SILENT, label="training"),
            )  # fmt: skip

    def save_if_due(self, state: LoopState) -> None:
        if self.every is not None and state.step % self.every == 0:
            self.save(state)

    def save(self, state: LoopState) -> None:
        self.saved.append((replace(state), {key: value.clone() for key, value in self.optimizer.state().items()}))

    def restore(self) -> LoopState | None:
        state, tensors = self.saved[-1]
        self.optimizer.load_state(tensors, state.updates)
        return replace(state)

    def resumed(self) -> Run:
        """A new process would hold this: a fresh decoder, and the last saved state."""
        again = Run(self.folder, guards=self.guards, every=self.every)
        state, tensors = self.saved[-1]
        again.state = replace(state)
        again.optimizer = Optimizer(again.decoder, self.optimizer.settings)
        again.optimizer.load_state(tensors, state.updates)
        return again

    def weights(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.decoder.parameters()])

    def records(self) -> list[dict[str, Any]]:
        """Without the clock."""
        return [{key: value for key, value in record.items() if key not in CLOCK} for record in read_metrics(self.folder / "metrics.jsonl")]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("stops", [[1], [5], [2, 3, 11], [12]])
def test_stopping_and_going_on_changes_no_bit(tmp_path, kind, stops):
    """Float32; weights, smoothed loss and every record but the clock."""
    straight, run = Run(tmp_path / "straight", kind), Run(tmp_path / "stopped", kind)
    whole = straight.go()
    for stop in stops:
        ended = run.go(stop_in_step=stop)
        assert run.state.step == stop
        if stop == 12:  # the budget is spent: nothing is left to stop
            assert ended.finished and not run.saved
            break
        assert not ended.finished and run.saved[-1][0].step == stop
        run = run.resumed()
    else:
        ended = run.go()
    assert ended.finished and whole.finished and ended.loss == whole.loss == straight.state.loss
    assert torch.equal(run.weights(), straight.weights())
    assert run.records() == straight.records()


def test_micro_batches_are_one_batch(tmp_path):
    """Six batches of a step at once, or as a single one: the same training, within float32's rounding."""

    class Joined(RandomBatches):
        def micro_batches(self, step: int) -> Sequence[Batch]:
            parts = super().micro_batches(step)
            names = ("input_ids", "targets", "positions", "first_visible")
            tensors: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
            return [
                Batch(
                    **tensors,
                    target_count=sum(part.target_count for part in parts), token_count=sum(part.token_count for part in parts),
                )
            ]  # fmt: skip

    many, one = Run(tmp_path / "many", "adamw"), Run(tmp_path / "one", "adamw")
    many.go(RandomBatches(micro_batches=6, rows=1), steps=4)
    one.go(Joined(micro_batches=6, rows=1), steps=4)
    assert many.state.targets == one.state.targets and many.state.tokens == one.state.tokens == 4 * 6 * 12
    for left, right in zip(many.records(), one.records(), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)
    torch.testing.assert_close(many.weights(), one.weights(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("form", ["sequence", "batch"])
def test_experts_learn_to_share_the_work(tmp_path, form):
    """The balance loss is minimised with the main one and logged beside it as a mean, which is 1 a layer where all are used alike."""
    uneven = {}
    for factor in (1e-6, 1.0):
        experts = ExpertsConfig(num_experts=4, num_experts_per_token=2, intermediate_size=8, balance_factor=factor, balance_form=form)
        run = Run(tmp_path / f"{factor}", "adamw", experts=experts)
        run.go(RandomBatches(micro_batches=2, tokens=32), steps=40)
        records = run.records()
        uneven[factor] = sum(record["balance_loss"] / factor / 2 - 1.0 for record in records[-10:]) / 10
        assert records[-1]["loss"] < records[0]["loss"] - 1.0
    assert 0.03 < uneven[1e-6] < 1.0 and uneven[1.0] < 0.3 * uneven[1e-6]


def test_every_step_takes_its_own_batches_once(tmp_path):
    asked = []

    class Watched(RandomBatches):
        def micro_batches(self, step: int) -> Sequence[Batch]:
            asked.append(step)
            return super().micro_batches(step)

    run = Run(tmp_path)
    run.go(Watched(), steps=7, stop_in_step=4)
    assert asked == [0, 1, 2, 3, 4]  # one step ahead
    asked.clear()
    run.resumed().go(Watched(), steps=7)
    assert asked[:3] == [4, 5, 6] and len(asked) == len(set(asked))


def test_the_loss_falls(tmp_path):
    run = Run(tmp_path)
    result = run.go(RandomBatches(rows=8, tokens=24), steps=60)
    losses = [record["loss"] for record in run.records()]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    assert min(losses) < result.loss < max(losses)


def test_state_is_saved_on_the_way(tmp_path):
    run = Run(tmp_path, every=1)
    run.go(steps=6)
    assert [state.step for state, _ in run.saved] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("limits", [{"minutes": 0.02}, {"epochs": 0.5}, {"minutes": 5.0, "epochs": 0.3}])
def test_the_first_limit_reached_ends_the_run(tmp_path, limits):
    run = Run(tmp_path)
    assert run.go(RandomBatches(steps_per_epoch=20.0), **limits).finished
    if "epochs" in limits:
        assert run.state.step == round(20 * limits["epochs"])
    else:
        assert 1.2 <= run.state.seconds < 10
    factors = [record["rate_factor"] for record in run.records()]
    assert max(factors) > 0.5 > factors[-1]


def test_progress_is_the_nearest_limits():
    state = LoopState(step=30, seconds=60.0)
    assert progress_of(BudgetSettings(steps=100), state, 10.0) == 0.3
    assert progress_of(BudgetSettings(minutes=4), state, 10.0) == 0.25
    assert progress_of(BudgetSettings(epochs=6), state, 10.0) == 0.5
    assert progress_of(BudgetSettings(steps=100, minutes=4, epochs=6), state, 10.0) == 0.5


def test_a_spent_budget_does_nothing(tmp_path):
    run = Run(tmp_path)
    run.go(steps=3)
    before, weights = replace(run.state), run.weights()
    assert run.go(steps=3).finished
    assert run.state == before and torch.equal(run.weights(), weights)


def test_a_fault_of_the_reader_arrives(tmp_path):
    class Failing(RandomBatches):
        def micro_batches(self, step: int) -> Sequence[Batch]:
            if step == 2:
                raise DataError("shard.bin: vanished")
            return super().micro_batches(step)

    run = Run(tmp_path)
    with pytest.raises(DataError, match="vanished"):
        run.go(Failing())
    assert run.state.step == 2


def test_a_step_without_targets_changes_little_and_breaks_nothing(tmp_path):
    class Empty(RandomBatches):
        def micro_batches(self, step: int) -> Sequence[Batch]:
            (batch,) = super().micro_batches(step)
            return [replace(batch, targets=torch.full_like(batch.targets, -100), target_count=0)]

    run = Run(tmp_path, "adamw")
    before = run.weights()
    run.go(Empty(), steps=2)
    assert torch.equal(run.weights(), before) and run.records()[0]["loss"] == 0.0


def test_sources_and_objectives_are_what_their_protocols_say():
    source: BatchSource = RandomBatches()
    objective: Callable[[Decoder, Scored], LossSum] = next_token
    found = objective(tiny_decoder(), source.micro_batches(0)[0])
    assert found.target_count == source.micro_batches(0)[0].target_count


class Broken(RandomBatches):
    """Some steps have a batch whose weights are not numbers."""

    def __init__(self, *steps: int, **sizes: int) -> None:
        super().__init__(micro_batches=2, **sizes)
        self.broken = steps

    def micro_batches(self, step: int) -> Sequence[Batch]:
        good, bad = super().micro_batches(step)
        return [good, replace(bad, weights=torch.full(bad.targets.shape, torch.nan)) if step in self.broken else bad]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_step_that_is_not_finite_moves_nothing_and_names_its_samples(tmp_path, kind):
    run = Run(tmp_path, kind)
    run.go(Broken(2, 3), steps=2)
    before = run.weights()
    run.go(Broken(2, 3), steps=4)
    assert torch.equal(run.weights(), before)
    faulty = run.records()[2]
    assert faulty["step"] == 3 and "loss" not in faulty and "nan" in faulty["fault"]
    assert faulty["samples"] == ["sample 2.1.0", "sample 2.1.1"], "the other batch of the step is innocent"
    run.go(Broken(2, 3), steps=6)
    assert run.state.step == 6 and run.state.updates == 4 and not torch.equal(run.weights(), before)
    assert run.weights().isfinite().all() and run.state.faults_in_a_row == 0


def test_too_many_faults_in_a_row_end_the_run_with_its_state_saved(tmp_path):
    run = Run(tmp_path, guards=GuardSettings(patience=3))
    with pytest.raises(DivergenceError, match="step 7: 3 faulty steps in a row") as fault:
        run.go(Broken(1, 4, 5, 6))
    assert "learning rate" in str(fault.value)
    assert run.saved[-1][0].step == 7


class Spiking(RandomBatches):
    """In some steps everything is to be said backwards."""

    def __init__(self, *steps: int) -> None:
        super().__init__(rows=8, tokens=16)
        self.spikes = steps

    def micro_batches(self, step: int) -> Sequence[Batch]:
        (batch,) = super().micro_batches(step)
        return [
            replace(batch, targets=torch.where(batch.targets == -100, batch.targets, 29 - batch.targets)) if step in self.spikes else batch
        ]


def test_a_spike_rolls_back_and_is_as_if_its_batches_had_never_been(tmp_path):
    """Left out from the beginning, or met, undone and left out: the same weights, also when the run is stopped meanwhile."""
    guards = GuardSettings(spike=8.0, window=16, leave_out=1)
    clean, spiked = Run(tmp_path / "clean", "adamw"), Run(tmp_path / "spiked", "adamw", guards=guards, every=10)
    clean.state.left_out = [43, 44]
    clean.go(Spiking(), steps=60)
    spiked.go(Spiking(44), steps=60, stop_in_step=50)
    event = next(record for record in spiked.records() if "fault" in record)
    assert event["at_step"] == 45 and event["left_out"] == [44, 45] and event["step"] == 40
    assert "robust deviations" in event["fault"] and len(event["samples"]) == 8
    again = spiked.resumed()
    again.go(Spiking(44), steps=60)
    assert torch.equal(again.weights(), clean.weights())
    assert [record for record in again.records() if "loss" in record] == clean.records()
    unwatched = Run(tmp_path / "unwatched", "adamw")
    unwatched.go(Spiking(44), steps=60)
    assert not torch.equal(unwatched.weights(), clean.weights())
