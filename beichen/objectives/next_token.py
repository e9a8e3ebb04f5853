"""Next-token prediction over the scored positions of a batch.

Language modelling scores every token; supervised fine-tuning scores what the assistant must learn to say. Which positions
count is written in the batch's targets by ``data.packing``, so both are this one function.
"""

from __future__ import annotations

from torch import Tensor

from beichen.nn.cross_entropy import IGNORED, linear_cross_entropy
from beichen.nn.decoder import Decoder
from beichen.nn.routing import Routing
from beichen.objectives.balance import mixture_sums
from beichen.objectives.types import LossSum, Scored


def next_token(decoder: Decoder, batch: Scored) -> LossSum:
    """Sum of -log p(target), times what the target counts, over the positions whose target is not ignored.

    Positions that nobody scores still run through the layers (later ones see them), but never through the head. A mixture of experts
    adds what is asked of it while it is trained, and what the log shows of it.
    """
    routings: list[Routing] = []
    hidden = decoder(batch.input_ids, positions=batch.positions, first_visible=batch.first_visible, routings=routings)
    loss = _weighted_sum(decoder, hidden.flatten(0, 1), batch.targets.flatten(), None if batch.weights is None else batch.weights.flatten())
    auxiliary, figures = mixture_sums(decoder, routings, batch)
    return LossSum(loss_sum=loss, target_count=batch.target_count, auxiliary=auxiliary, figures=figures)


def _weighted_sum(decoder: Decoder, hidden: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """hidden [positions, hidden]; targets, weights [positions].  -> float32 scalar

    Targets that count alike are summed in one go by the fused loss; there are as many weights as a data set has words for them.
    """
    scale = decoder.config.logit_scale
    if weights is None:
        return linear_cross_entropy(hidden, decoder.head_weight, targets, logit_scale=scale)
    total = linear_cross_entropy(hidden[:0], decoder.head_weight, targets[:0])  # a loss with a gradient even where nothing is scored
    for weight in weights[targets != IGNORED].unique():
        alike = (weights == weight) & (targets != IGNORED)
        total = total + weight * linear_cross_entropy(hidden[alike], decoder.head_weight, targets[alike], logit_scale=scale)
    return total
