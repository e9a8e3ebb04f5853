"""``train.step``: sums that do not depend on how a step is cut; dropout that follows from seed and step alone."""

from __future__ import annotations

import torch
from torch import Tensor

from beichen.nn.decoder import Decoder
from beichen.objectives.next_token import next_token
from beichen.objectives.types import LossSum, Scored
from beichen.train.step import gather
from tests.train.test_loop import RandomBatches, tiny_decoder


def gradients(decoder: Decoder) -> Tensor:
    found = torch.cat([parameter.grad.flatten() for parameter in decoder.parameters() if parameter.grad is not None])
    decoder.zero_grad()
    return found


def test_figures_are_averaged_over_what_the_targets_count():
    def objective(decoder: Decoder, batch: Scored) -> LossSum:
        scored = next_token(decoder, batch)
        share = torch.tensor([1.0, 3.0]) * batch.target_count
        return LossSum(loss_sum=scored.loss_sum, target_count=scored.target_count, figures={"load": share})

    decoder = tiny_decoder()
    gathered = gather(decoder, RandomBatches(micro_batches=3).micro_batches(0), objective, seed=0, step=0)
    assert gathered.as_dict()["load"] == [1.0, 3.0]
    assert gathered.as_dict()["loss"] == gathered.loss


def test_dropout_follows_from_seed_and_step():
    decoder = tiny_decoder(hidden_dropout=0.3).train()
    batches = RandomBatches(micro_batches=2).micro_batches(0)

    def drawn(seed: int, step: int) -> Tensor:
        torch.rand(7)  # what was drawn before has no say
        gather(decoder, batches, next_token, seed=seed, step=step)
        return gradients(decoder)

    first = drawn(1, 5)
    assert torch.equal(first, drawn(1, 5))
    assert not torch.equal(first, drawn(1, 6)) and not torch.equal(first, drawn(2, 5))
