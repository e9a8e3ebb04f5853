"""What an objective takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from beichen.data.batch import Documents
from beichen.nn.decoder import Decoder


class Scored(Protocol):
    """The part of a batch that every objective reads; ``data.batch.Batch`` is one. All tensors [rows, tokens]."""

    @property
    def input_ids(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...
    @property
    def positions(self) -> Tensor: ...
    @property
    def first_visible(self) -> Tensor: ...
    @property
    def target_count(self) -> int: ...
    @property
    def weights(self) -> Tensor | None: ...  # float32, what each target counts; None: all alike
    @property
    def documents(self) -> Documents | None: ...  # of objectives that judge documents as wholes


@dataclass(frozen=True, kw_only=True)
class LossSum:
    """A float32 scalar to be divided by what all targets count together; so are further losses that are minimised with it, by name.

    figures: what only the log shows, of any shape, without gradients: sums over what the targets count, divided alike.
    """

    loss_sum: Tensor
    target_count: int
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    figures: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def minimised(self) -> Tensor:
        """The sum of all of them."""
        return sum(self.auxiliary.values(), self.loss_sum)


class Objective(Protocol):
    """A pure function of the decoder's outputs and one micro-batch."""

    def __call__(self, decoder: Decoder, batch: Scored) -> LossSum: ...


@runtime_checkable
class StepObjective(Protocol):
    """An objective that has to see all micro-batches of a step before the first of them is scored."""

    def of_step(self, decoder: Decoder, batches: Sequence[Scored]) -> Objective: ...
