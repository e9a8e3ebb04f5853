"""``Plan``: what a run reads from its first step to its last, and the learning rate over it; a pure function of the step.

In: stretches of rows and the recipe. Out: the loader, the rate, and the table that is printed before the first step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from beichen.data.curriculum import Stretch
from beichen.data.loader import Loader, Stages
from beichen.errors import SettingsError
from beichen.train.optimizer_settings import ScheduleSettings
from beichen.train.schedules import in_shares, phase_factor, rate_factor
from beichen.train.settings import BudgetSettings, TrainRecipe

CURVE_POINTS = 400  # places at which the course of the learning rate is written down, for a picture


@dataclass(frozen=True)
class Plan:
    """The stretches of a run, and the recipe that says how they are trained."""

    recipe: TrainRecipe
    stretches: tuple[Stretch, ...]

    @property
    def is_plain(self) -> bool:
        """Whether one source is read throughout, so that there is nothing to show."""
        return not self.recipe.data.phases and len(self.stretches[0].uses) <= 1

    @cached_property
    def stages(self) -> Stages:
        """The batches of each step, as a single process reads them."""
        return self.loader(rank=0, world_size=1)

    def loader(self, *, rank: int, world_size: int) -> Stages:
        """One process's share. Steps are of one size in tokens: rows k times as long are k times fewer."""
        return Stages([self._loader(stretch, rank, world_size) for stretch in self.stretches])

    def _loader(self, stretch: Stretch, rank: int, world_size: int) -> Loader:
        batch, usual, length = self.recipe.batch, self.recipe.data.sequence_length, stretch.phase.sequence_length
        step, micro_batch = batch.rows_per_step * usual, batch.rows_per_micro_batch * usual
        if step % length or micro_batch % length:
            raise SettingsError(
                f"data.phases: '{stretch.phase.name}' has rows of {length}, a step has {step} positions and a micro-batch {micro_batch}",
                remedy="choose a sequence length that divides both",
            )
        return Loader(
            stretch.rows, rows_per_step=step // length, rows_per_micro_batch=micro_batch // length, rank=rank, world_size=world_size,
            num_rows=stretch.num_rows,
        )  # fmt: skip

    @property
    def budget(self) -> BudgetSettings:
        """The recipe's, ended with the last row where there is one."""
        given, steps = self.recipe.budget, self.stages.steps
        return given if steps is None else replace(given, steps=steps if given.steps is None else min(steps, given.steps))

    @property
    def expected_steps(self) -> int | None:
        """Steps of the whole run, unless it is minutes that end it."""
        budget = self.budget
        epochs = None if budget.epochs is None else int(-(-budget.epochs * self.stages.steps_per_epoch // 1))
        full_steps = None if budget.tokens is None else -(-budget.tokens // self._tokens_per_step)  # rows without padding
        return min((steps for steps in (budget.steps, epochs, full_steps) if steps is not None), default=None)

    @cached_property
    def _schedule(self) -> ScheduleSettings:
        steps = None if self.recipe.budget.minutes is not None else self.expected_steps
        return in_shares(self.recipe.schedule, steps, tokens_per_step=self._tokens_per_step)

    @property
    def _tokens_per_step(self) -> int:
        return self.recipe.batch.rows_per_step * self.recipe.data.sequence_length

    def rate(self, step: int, progress: float, tokens: int | None = None) -> float:
        """Factor of the optimizer's rates: by the step within its phase, or by the run's progress where phases have no rate.

        tokens: those of the run with this step; None: as if every row were full.
        """
        phases = self.recipe.data.phases
        if not phases or phases[0].rate is None:
            tokens = (step + 1) * self._tokens_per_step if tokens is None else tokens
            return rate_factor(self._schedule, progress, step=step, tokens=tokens)
        stage, own = self.stages.place(step)
        rate, steps = phases[stage].rate, self.stages.loaders[stage].steps
        if rate is None or steps is None:
            raise RuntimeError(f"phase '{phases[stage].name}' has no rate or no end")
        return phase_factor(rate, own, steps)

    def as_dict(self) -> dict[str, Any]:
        """For plan.json: each stretch with what it uses, and the learning rate as points of (tokens, factor)."""
        stretches = [
            {
                "phase": stretch.phase.name, "rows": stretch.num_rows, "sequence_length": stretch.phase.sequence_length,
                "positions": stretch.positions, "grades": {name: list(bounds) for name, bounds in stretch.phase.grades.items()},
                "steps": loader.steps, "uses": {name: asdict(use) for name, use in stretch.uses.items()},
            }
            for stretch, loader in zip(self.stretches, self.stages.loaders, strict=True)
        ]  # fmt: skip
        return {"stretches": stretches, "rates": self._rates()}

    def _rates(self) -> list[tuple[int, float]]:
        """The course of the learning rate, where the steps are known; every step if they are few."""
        steps = self.expected_steps
        if steps is None:
            return []
        places = sorted({min(steps - 1, round(number * (steps - 1) / CURVE_POINTS)) for number in range(CURVE_POINTS + 1)})
        return [(step * self._tokens_per_step, self.rate(step, step / steps)) for step in places]

    def as_text(self) -> str:
        """The table of phases: how long each is, the factor of the learning rates, and how often it reads each source."""
        head = ("phase", "tokens", "until", "rows", "steps", "rate factor", "source", "documents", "epochs", "share")
        lines: list[tuple[str, ...]] = [head]
        done, first = 0, 0
        steps_in_all = self.expected_steps
        for stretch, loader in zip(self.stretches, self.stages.loaders, strict=True):
            about, passes = self._open_end(stretch), 1.0
            if stretch.num_rows is None and steps_in_all is not None:
                passes = steps_in_all / self.stages.steps_per_epoch
            if stretch.positions is not None and loader.steps is not None:
                done += stretch.positions
                about = (
                    stretch.phase.name, f"{stretch.positions:,}", f"{done:,}", f"{stretch.num_rows:,} of {stretch.phase.sequence_length}",
                    f"{loader.steps:,}", self._rate_text(first, first + loader.steps - 1, steps_in_all),
                )  # fmt: skip
                first += loader.steps
            for name, use in stretch.uses.items():
                lines.append((*about, name, f"{use.documents:,}", f"{use.epochs * passes:.2f}", f"{use.share:.1%}"))
                about = ("",) * 6
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        left = (0, 6)  # columns of names
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column in left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def _open_end(self, stretch: Stretch) -> tuple[str, ...]:
        """The first columns of a stretch that the budget ends: what the budget says in steps, else (minutes) how long one pass is."""
        name, length, rows = stretch.phase.name, stretch.phase.sequence_length, self.recipe.batch.rows_per_step
        steps = self.expected_steps
        if steps is not None:
            tokens = f"{steps * self._tokens_per_step:,}"
            return (name, tokens, tokens, f"{steps * rows:,} of {length}", f"{steps:,}", self._rate_text(0, steps - 1, steps))
        passed, rate = math.ceil(self.stages.steps_per_epoch), f"{self.rate(0, 0.0):.3g} to {self.rate(0, 1.0):.3g}"
        return (f"{name}, a pass", f"{passed * self._tokens_per_step:,}", "", f"{passed * rows:,} of {length}", f"{passed:,}", rate)

    def _rate_text(self, first: int, last: int, steps: int | None) -> str:
        begin, end = (self.rate(step, step / (steps or last + 1)) for step in (first, last))
        return f"{begin:.3g}" if begin == end else f"{begin:.3g} to {end:.3g}"
