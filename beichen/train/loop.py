"""The one loop: batches through the decoder, an objective's gradients through the optimizer, until the budget is spent.

Everything that a step does follows from its number, so a run that stops anywhere goes on as if it had not. The loop knows
neither files nor formats: what to do with its state is the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from beichen.data.batch import Batch
from beichen.nn.decoder import Decoder
from beichen.objectives.types import Objective
from beichen.train.interrupt import stop_on_signals
from beichen.train.metrics import MetricsLog
from beichen.train.optimizers import Optimizer
from beichen.train.settings import BudgetSettings
from beichen.train.step import Gathered, gather
from beichen.util.progress import Reporter, Task


class BatchSource(Protocol):
    """Micro-batches of a step, as a pure function of the step's number."""

    @property
    def steps_per_epoch(self) -> float: ...

    def micro_batches(self, step: int) -> Sequence[Batch]: ...


@dataclass
class LoopState:
    """How far a run is; with the optimizer's tensors it is all that resuming needs."""

    step: int = 0
    tokens: int = 0  # positions that ran through the decoder, padding excluded
    targets: int = 0  # positions that were scored
    seconds: float = 0.0  # in steps, waiting for data included, evaluation and saving excluded
    loss: float = 0.0  # smoothed, in nats per target

    def count(self, gathered: Gathered, seconds: float) -> None:
        """One more step, which took so long."""
        self.step, self.tokens, self.targets = self.step + 1, self.tokens + gathered.tokens, self.targets + gathered.targets
        self.seconds += seconds
        self.loss += max(0.02, 1.0 / self.step) * (gathered.loss - self.loss)


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
    return max(shares)


def run_loop(
    decoder: Decoder, source: BatchSource, objective: Objective, optimizer: Optimizer, *, state: LoopState, budget: BudgetSettings,
    rate: Callable[[int, float], float], metrics: MetricsLog, reporter: Reporter, label: str,
    save_every_seconds: float, save: Callable[[LoopState], None], seed: int = 0, after_step: Sequence[Callable[[Gathered], None]] = (),
) -> LoopResult:  # fmt: skip
    """Train until the budget is spent, or until Ctrl-C or SIGTERM; ``save`` is called regularly and when stopped.

    ``rate`` gives the factor of the learning rates, by the step's number and the share of the budget that is spent. Losses are sums over
    targets, divided once a step by what the targets of all its micro-batches count. ``after_step`` is called when the weights have moved.
    """
    decoder.train()
    last_save = time.monotonic()
    with (
        stop_on_signals() as stop,
        ThreadPoolExecutor(1) as reader,
        _track(reporter, label, budget, source.steps_per_epoch) as (task, scale),
    ):
        coming = reader.submit(source.micro_batches, state.step)
        while (progress := progress_of(budget, state, source.steps_per_epoch)) < 1.0:
            if stop.requested:
                save(state)
                return LoopResult(finished=False, loss=state.loss)
            begin = time.perf_counter()
            batches = coming.result()
            coming = reader.submit(source.micro_batches, state.step + 1)
            factor = rate(state.step, progress)
            gathered = gather(decoder, batches, objective, seed=seed, step=state.step)
            norm = optimizer.step(factor, gathered.target_weight)
            for follow in after_step:
                follow(gathered)
            seconds = time.perf_counter() - begin
            state.count(gathered, seconds)
            speed = state.tokens / state.seconds
            metrics.add(
                step=state.step, **gathered.as_dict(), rate_factor=factor, gradient_norm=norm, tokens=state.tokens, targets=state.targets,
                seconds=round(state.seconds, 3), tokens_per_second=round(gathered.tokens / seconds, 1),
            )  # fmt: skip
            task.set(
                scale * min(1.0, progress_of(budget, state, source.steps_per_epoch)), loss=f"{state.loss:.3f}", speed=f"{speed:,.0f} tok/s"
            )
            if time.monotonic() - last_save > save_every_seconds:
                save(state)
                last_save = time.monotonic()
        coming.cancel()
    return LoopResult(finished=True, loss=state.loss)


@contextmanager
def _track(reporter: Reporter, label: str, budget: BudgetSettings, steps_per_epoch: float) -> Iterator[tuple[Task, float]]:
    """A bar in seconds or in steps, whichever limits the run, and its full length."""
    if budget.minutes is not None:
        total, unit = 60.0 * budget.minutes, "s"
    else:
        total, unit = float(budget.steps or (budget.epochs or 0.0) * steps_per_epoch), "steps"
    with reporter.track(label, total=total, unit=unit) as task:
        yield task, total
