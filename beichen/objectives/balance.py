"""The balance loss of a mixture of experts, as a sum over targets like every other loss.

Each row's loss counts once for every target of the row. So divided by the targets of the whole step it is a mean, whose weight beside
the main loss does not depend on how the step is cut into micro-batches; in the ``sequence`` form its value does not either.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from beichen.nn.config import ExpertsConfig
from beichen.nn.cross_entropy import IGNORED
from beichen.nn.routing import Routing, balance_loss
from beichen.objectives.types import Scored


def balance_sum(routings: Sequence[Routing], config: ExpertsConfig, batch: Scored) -> Tensor:
    """Sum over mixture layers and targets.  -> float32 scalar"""
    counted = holds_token(batch)
    scored = batch.targets != IGNORED
    targets = (scored if batch.weights is None else scored * batch.weights).sum(1)  # [rows]
    return (balance_loss(routings, config, counted) * targets).sum()


def holds_token(batch: Scored) -> Tensor:
    """Which positions are not padding: the unscored ones at a row's end that see themselves alone.  -> bool [rows, tokens]"""
    columns = torch.arange(batch.targets.shape[1], device=batch.targets.device)
    alone = (batch.first_visible == columns) & (batch.positions == 0) & (batch.targets == IGNORED)
    return ~alone.flip(1).long().cumprod(1).flip(1).bool()
