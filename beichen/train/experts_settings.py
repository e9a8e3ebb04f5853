"""What training asks of a mixture of experts, beside what the model's own config says of it: no part of the network that comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from beichen.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class ExpertsTrainingSettings:
    """How the use of experts is kept even, and how many tokens one serves. null: as the model's config says.

    balance_factor: of the auxiliary loss that rises when experts are used unevenly, 0: none.
    balance_form: within each row (``sequence``) or over the rows of a micro-batch (``batch``, which others call the expert form).
    device_groups: into how many groups of neighbours the experts are dealt, device_balance_factor: of the loss between the groups.
    z_loss_factor: of the mean square of the logarithm of the router's partition sum, which keeps its logits small.
    bias_rate: after each step every expert's selection bias moves by so much, up where it was chosen too seldom, down where too often.
    capacity_factor: an expert serves at most so many times its even share of a micro-batch's choices, 0: all.
    """

    balance_factor: float | None = None
    balance_form: Literal["sequence", "batch"] | None = None
    device_groups: int | None = None
    device_balance_factor: float = 0.0
    z_loss_factor: float = 0.0
    bias_rate: float = 0.0
    capacity_factor: float | None = None

    def __post_init__(self) -> None:
        for key in ("balance_factor", "device_balance_factor", "z_loss_factor", "bias_rate", "capacity_factor"):
            value = getattr(self, key)
            if value is not None and not 0.0 <= value < math.inf:
                raise SettingsError(f"experts_training.{key}={value}: must not be below 0")
        if self.device_groups is not None and self.device_groups < 2:
            raise SettingsError(f"experts_training.device_groups={self.device_groups}: must be at least 2, or null for no groups")
        if (self.device_balance_factor > 0) != (self.device_groups is not None):
            raise SettingsError("experts_training: device_groups and device_balance_factor are given together")
