"""What is asked of a mixture of experts beside the main loss, and what the log shows of it, as sums over targets like every other loss.

What a row gives counts once for every target of the row. So divided by the targets of the whole step it is a mean, whose weight beside
the main loss does not depend on how the step is cut into micro-batches; but for the ``batch`` form and capacity, its value does not either.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from beichen.nn.balancing import asked_losses, usage, usage_figures
from beichen.nn.cross_entropy import IGNORED
from beichen.nn.decoder import Decoder
from beichen.nn.routing import Routing
from beichen.objectives.types import Scored


def mixture_sums(decoder: Decoder, routings: Sequence[Routing], batch: Scored) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """``LossSum``'s auxiliary losses (summed over layers) and figures (by layer), by name; empty without experts or outside training."""
    experts, asked = decoder.config.experts, decoder.balancing
    if experts is None or asked is None or not routings or not decoder.training:
        return {}, {}
    used = usage(routings, experts, holds_token(batch))
    scored = batch.targets != IGNORED
    targets = (scored if batch.weights is None else scored * batch.weights).sum(1).float()  # [rows]
    losses = {name: (loss * targets).sum() for name, loss in asked_losses(used, asked).items()}
    return losses, {name: torch.einsum("lr...,r->l...", figure, targets) for name, figure in usage_figures(routings, used).items()}


def holds_token(batch: Scored) -> Tensor:
    """Which positions are not padding: the unscored ones at a row's end that see themselves alone.  -> bool [rows, tokens]"""
    columns = torch.arange(batch.targets.shape[1], device=batch.targets.device)
    alone = (batch.first_visible == columns) & (batch.positions == 0) & (batch.targets == IGNORED)
    return ~alone.flip(1).long().cumprod(1).flip(1).bool()
