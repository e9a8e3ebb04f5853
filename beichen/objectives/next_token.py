"""Next-token prediction over the scored positions of a batch.

Language modelling scores every token; supervised fine-tuning scores what the assistant must learn to say. Which positions
count is written in the batch's targets by ``data.packing``, so both are this one function.
"""

from __future__ import annotations

from beichen.nn.cross_entropy import linear_cross_entropy
from beichen.nn.decoder import Decoder
from beichen.nn.routing import Routing
from beichen.objectives.balance import balance_sum
from beichen.objectives.types import LossSum, Scored


def next_token(decoder: Decoder, batch: Scored) -> LossSum:
    """Sum of -log p(target) over the positions whose target is not ignored.

    Positions that nobody scores still run through the layers (later ones see them), but never through the head. A mixture of experts
    adds its balance loss while it is trained.
    """
    routings: list[Routing] = []
    hidden = decoder(batch.input_ids, positions=batch.positions, first_visible=batch.first_visible, routings=routings)
    loss = linear_cross_entropy(
        hidden.flatten(0, 1), decoder.head_weight, batch.targets.flatten(), logit_scale=decoder.config.logit_scale
    )  # fmt: skip
    experts = decoder.config.experts
    balanced = experts is not None and experts.balance_factor > 0 and decoder.training
    auxiliary = {"balance_loss": balance_sum(routings, experts, batch)} if balanced and experts is not None else {}
    return LossSum(loss_sum=loss, target_count=batch.target_count, auxiliary=auxiliary)
