"""Gradients of one optimizer step, gathered from all its micro-batches.

In: the decoder, the step's micro-batches, an objective. Out: gradients in the parameters, as sums, and the sums and counts that go with
them. Rule: nothing is divided here, so how a step is cut into micro-batches changes no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from beichen.data.batch import Batch
from beichen.nn.decoder import Decoder
from beichen.objectives.types import Objective, StepObjective
from beichen.util.random import keyed_seed


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What the micro-batches of a step gave together, still as sums; on the CPU."""

    losses: list[float]  # of each micro-batch, as sums
    auxiliary: dict[str, float]
    figures: dict[str, Tensor]
    tokens: int
    targets: int
    target_weight: float  # what the targets count together: gradients and sums are divided by it

    @property
    def loss(self) -> float:
        """Mean over targets."""
        return sum(self.losses) / self.target_weight

    def as_dict(self) -> dict[str, float | list[float]]:
        """The means, for the log; figures, which may be many, in five digits."""
        figures = {name: _shortened((total / self.target_weight).tolist()) for name, total in self.figures.items()}
        return {"loss": self.loss, **{name: total / self.target_weight for name, total in self.auxiliary.items()}, **figures}


def gather(decoder: Decoder, batches: Sequence[Batch], objective: Objective, *, seed: int, step: int, loss_scale: float = 1.0) -> Gathered:
    """Forward and backward of every micro-batch. What is random in them (dropout) follows from seed, step and place alone.

    loss_scale: factor of the gradients.
    """
    device = next(decoder.parameters()).device
    losses: list[float] = []
    auxiliary: dict[str, Tensor] = {}
    figures: dict[str, Tensor] = {}
    if isinstance(objective, StepObjective):
        objective = objective.of_step(decoder, [batch.to(device) for batch in batches])
    for place, batch in enumerate(batches):
        torch.manual_seed(keyed_seed(seed, "dropout", step * len(batches) + place))
        scored = objective(decoder, batch.to(device))
        (scored.minimised if loss_scale == 1.0 else scored.minimised * loss_scale).backward()
        losses.append(float(scored.loss_sum.detach()))
        _add(auxiliary, scored.auxiliary, torch.float64)
        _add(figures, scored.figures, torch.float32)
    return Gathered(
        losses=losses,
        auxiliary={name: float(total) for name, total in auxiliary.items()},
        figures={name: total.cpu() for name, total in figures.items()},
        tokens=sum(batch.token_count for batch in batches),
        targets=sum(batch.target_count for batch in batches),
        target_weight=sum(batch.target_weight for batch in batches) or 1.0,
    )


def _shortened(value: Any) -> Any:
    """A number, or nested lists of them, in five digits."""
    return [_shortened(one) for one in value] if isinstance(value, list) else float(f"{value:.5g}")


def _add(sums: dict[str, Tensor], values: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    for name, value in values.items():
        value = value.detach().to(dtype)
        sums[name] = sums[name] + value if name in sums else value
