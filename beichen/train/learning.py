"""``Learning``: what a kind of training has besides its rows: the objective, and what its held-out part is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from beichen.nn.decoder import Decoder
from beichen.objectives.registry import objective
from beichen.objectives.types import Objective
from beichen.train.preparation import Parts
from beichen.train.settings import TrainRecipe
from beichen.util.late import resolve
from beichen.util.progress import Reporter


class Learning(Protocol):
    """``NextToken`` and ``preferences.PreferenceTraining`` are such."""

    @property
    def objective(self) -> Objective: ...

    def held_out(self, decoder: Decoder, reporter: Reporter) -> dict[str, dict[str, float]] | None:
        """Figures before and after training, besides the loss of held-out rows; None where there are none."""


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """Next-token prediction, judged by its loss alone."""

    objective: Objective

    def held_out(self, decoder: Decoder, reporter: Reporter) -> None:
        return None


def begin_learning(recipe: TrainRecipe, parts: Parts, folder: Path, *, begun: bool, reporter: Reporter) -> Learning:
    """What the recipe's kind of training begins with, of the weights as they are now.

    begun: the run has taken steps, whose weights are yet to be restored.
    """
    learning: Learning = resolve(recipe.training.begin)(recipe, parts, folder, begun=begun, reporter=reporter)
    return learning


def begin_next_token(recipe: TrainRecipe, parts: Parts, folder: Path, *, begun: bool, reporter: Reporter) -> NextToken:
    """The same for every run."""
    return NextToken(objective=objective("next_token"))
