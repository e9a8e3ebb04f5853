"""The one loop: batches through the decoder, an objective's gradients through the optimizer, until the budget is spent.

Everything that a step does follows from its number, so a run that stops anywhere goes on as if it had not. The loop knows
neither files nor formats: what to do with its state is the caller's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from beichen.data.batch import Batch
from beichen.errors import DivergenceError
from beichen.nn.decoder import Decoder
from beichen.objectives.types import Objective
from beichen.train.guards import Fault, GuardSettings, judge
from beichen.train.interrupt import stop_on_signals
from beichen.train.loop_state import LoopState
from beichen.train.metrics import MetricsLog
from beichen.train.optimizers import Optimizer
from beichen.train.settings import BudgetSettings
from beichen.train.step import Gathered, gather
from beichen.train.step_figures import StepFigures
from beichen.util.progress import Reporter, Task


class BatchSource(Protocol):
    """Micro-batches of a step, as a pure function of the step's number."""

    @property
    def steps_per_epoch(self) -> float: ...

    def micro_batches(self, step: int) -> Sequence[Batch]: ...

    def samples(self, step: int) -> Sequence[Sequence[str]]:
        """What stands in each of them, for people."""


@dataclass(frozen=True, kw_only=True)
class LoopResult:
    """Why the loop ended, and its last smoothed loss in nats per target."""

    finished: bool  # the budget is spent; False: it was asked to stop
    loss: float


def progress_of(budget: BudgetSettings, state: LoopState, steps_per_epoch: float) -> float:
    """Share of the budget that is spent, by whichever limit is nearest."""
    shares = [0.0]
    if budget.steps is not None:
        shares.append(state.step / budget.steps)
    if budget.minutes is not None:
        shares.append(state.seconds / (60.0 * budget.minutes))
    if budget.epochs is not None:
        shares.append(state.step / (budget.epochs * steps_per_epoch))
    if budget.tokens is not None:
        shares.append(state.tokens / budget.tokens)
    return max(shares)


class Saving(Protocol):
    """Where the state goes; ``state_keeping.StateKeeper`` is one."""

    def save_if_due(self, state: LoopState) -> None: ...
    def save(self, state: LoopState) -> None: ...
    def restore(self) -> LoopState | None: ...


@dataclass(frozen=True, kw_only=True)
class Course:
    """How far a run goes and how fast: the budget, the factor of the learning rates (by the step's number, the share of the budget that is
    spent, and the tokens with this step), the faults that it bears, the seed of what is random in a step."""

    budget: BudgetSettings
    rate: Callable[[int, float, int], float]
    guards: GuardSettings
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Where a run is written down and shown: the figures of a step, the file that they go to, the progress named ``label``."""

    figures: StepFigures
    metrics: MetricsLog
    reporter: Reporter
    label: str


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What else is done. ``after_step`` is called when the weights have moved, ``evaluate`` when the step is counted and recorded: it says
    whether the run is to end. What a step computes runs within ``around_step`` of its number, from 1."""

    after_step: Sequence[Callable[[Gathered], None]] = ()
    evaluate: Callable[[LoopState], bool] = lambda state: False
    around_step: Callable[[int], AbstractContextManager[object]] = lambda step: nullcontext()


NO_HOOKS = Hooks()


def run_loop(
    decoder: Decoder, source: BatchSource, objective: Objective, optimizer: Optimizer, *, state: LoopState, course: Course, keeper: Saving,
    recording: Recording, hooks: Hooks = NO_HOOKS,
) -> LoopResult:  # fmt: skip
    """Train until the budget is spent, or until Ctrl-C or SIGTERM, which saves.

    Losses are sums over targets, divided once a step by what the targets of all its micro-batches count.
    Raises DivergenceError after as many faulty steps in a row as ``course.guards`` bears.
    """
    budget, steps_per_epoch = course.budget, source.steps_per_epoch
    decoder.train()
    if course.guards.spike is not None and state.step == 0:
        keeper.save(state)  # there is always something to go back to
    with (
        stop_on_signals() as stop,
        ThreadPoolExecutor(1) as reader,
        _track(recording, budget, state, steps_per_epoch) as (task, scale),
    ):
        coming = reader.submit(source.micro_batches, state.step)
        while (progress := progress_of(budget, state, steps_per_epoch)) < 1.0:
            if stop.requested:
                keeper.save(state)
                return LoopResult(finished=False, loss=state.loss)
            begin = time.perf_counter()
            batches = coming.result()
            coming = reader.submit(source.micro_batches, state.step + 1)
            if state.step in state.left_out:
                state.skip(time.perf_counter() - begin, faulty=False)
                continue
            factor = course.rate(state.step, progress, state.tokens + sum(batch.token_count for batch in batches))
            with hooks.around_step(state.step + 1):
                gathered = gather(decoder, batches, objective, seed=course.seed, step=state.step, loss_scale=optimizer.loss_scale)
                norm = optimizer.gradient_norm(gathered.target_weight)
            if not math.isfinite(norm) and math.isfinite(gathered.loss) and optimizer.lower_loss_scale():
                optimizer.discard()
                state.skip(time.perf_counter() - begin, faulty=False)
                continue
            if fault := judge(course.guards, loss=gathered.loss, gradient_norm=norm, recent=state.recent):
                optimizer.discard()
                before = state.step
                _leave_out(
                    fault, gathered, source.samples(before), state, course.guards, keeper, recording, time.perf_counter() - begin
                )  # fmt: skip
                if state.step <= before:
                    coming.cancel()
                    coming = reader.submit(source.micro_batches, state.step)
                continue
            with hooks.around_step(state.step + 1):
                optimizer.step(factor, gathered.target_weight, norm)
            for follow in hooks.after_step:
                follow(gathered)
            seconds = time.perf_counter() - begin
            state.take(gathered, seconds)
            recording.metrics.add(
                **recording.figures.record(state, gathered, rate_factor=factor, gradient_norm=norm, seconds=seconds)
            )  # fmt: skip
            task.set(
                scale * min(1.0, progress_of(budget, state, steps_per_epoch)), loss=f"{state.loss:.3f}",
                speed=f"{state.tokens / state.seconds:,.0f} tok/s",
            )  # fmt: skip
            ends = hooks.evaluate(state)
            keeper.save_if_due(state)
            if ends:
                break
        coming.cancel()
    return LoopResult(finished=True, loss=state.loss)


def _leave_out(
    fault: Fault, gathered: Gathered, samples: Sequence[Sequence[str]], state: LoopState, guards: GuardSettings, keeper: Saving,
    recording: Recording, seconds: float,
) -> None:  # fmt: skip
    """Leave out the faulty step, or go back to the saved state and leave out what led to the fault; say so, with the samples at fault."""
    guilty = [not math.isfinite(loss) for loss in gathered.losses]
    named = [name for names, bad in zip(samples, guilty, strict=True) if bad or not any(guilty) for name in names]
    step, in_a_row = state.step, state.faults_in_a_row + 1
    event = {"fault": fault.reason, "at_step": step + 1, "samples": named}
    if fault.remedy == "roll back":
        earlier = keeper.restore()
        if earlier is None:
            raise RuntimeError("a run that watches for spikes saves its first state")
        out = sorted({*state.left_out, *range(max(earlier.step, step - guards.leave_out), step + 1)})
        vars(state).update(vars(replace(earlier, left_out=out, faults_in_a_row=in_a_row, seconds=state.seconds + seconds)))
        recording.metrics.cut(state.step)
        event |= {"left_out": [number + 1 for number in out]}
    else:
        state.skip(seconds, faulty=True)
    recording.metrics.add(step=state.step, **event)
    shown = ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")
    done = "left out" if fault.remedy == "skip" else f"back to step {state.step}"
    recording.reporter.warn(f"step {step + 1}: {fault.reason}; {done} ({shown})")
    if fault.remedy == "roll back" or in_a_row >= guards.patience:
        keeper.save(state)
    if in_a_row >= guards.patience:
        raise DivergenceError(
            f"step {step + 1}: {in_a_row} faulty steps in a row, the last because {fault.reason}",
            remedy="lower the learning rate, warm up longer, or look at the samples that metrics.jsonl names",
        )


@contextmanager
def _track(recording: Recording, budget: BudgetSettings, state: LoopState, steps_per_epoch: float) -> Iterator[tuple[Task, float]]:
    """A bar in seconds, tokens or steps, whichever limits the run, and its full length."""
    if budget.minutes is not None:
        total, unit = 60.0 * budget.minutes, "s"
    elif budget.tokens is not None:
        total, unit = float(budget.tokens), "tokens"
    else:
        total, unit = float(budget.steps or (budget.epochs or 0.0) * steps_per_epoch), "steps"
    begun = total * min(1.0, progress_of(budget, state, steps_per_epoch))
    with recording.reporter.track(recording.label, total=total, unit=unit, begun=begun) as task:
        yield task, total
