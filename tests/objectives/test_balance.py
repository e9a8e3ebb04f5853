"""The balance loss of a step: a mean over targets, the same however the step is cut, blind to padding, and only while training."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.data.batch import IGNORED, Batch
from beichen.nn.balancing import Balancing, balance_loss
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.nn.routing import Routing
from beichen.objectives.balance import holds_token
from beichen.objectives.next_token import next_token
from beichen.train.step import gather
from tests.objectives.test_next_token import cut
from tests.train.small_runs import random_batch, tiny_decoder

EXPERTS = ExpertsConfig(num_experts=4, num_experts_per_token=2, intermediate_size=8, balance_factor=0.5, balance_form="sequence")


def joined(parts: list[Batch]) -> Batch:
    names = ("input_ids", "targets", "positions", "first_visible")
    tensors: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    count = sum(part.target_count for part in parts)
    return Batch(**tensors, target_count=count, token_count=sum(part.token_count for part in parts))


def minimised_gradients(decoder: Decoder, batches: list[Batch]) -> torch.Tensor:
    decoder.zero_grad()
    for batch in batches:
        next_token(decoder, batch).minimised.backward()
    return torch.cat([parameter.grad.flatten() for parameter in decoder.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("seed", range(3))
def test_micro_batches_cannot_change_it(seed):
    decoder, rng = tiny_decoder(experts=EXPERTS).train(), random.Random(seed)
    parts = [random_batch(rows=1, tokens=16, seed=seed * 10 + row, scored=rng.choice([0.05, 0.5, 1.0])) for row in range(6)]
    whole = joined(parts)
    together = next_token(decoder, whole).auxiliary["balance_loss"]
    apart = torch.stack([next_token(decoder, part).auxiliary["balance_loss"] for part in cut(whole, [1, 3, 2])])
    torch.testing.assert_close(apart.sum(), together)
    for sizes in ([6], [1, 3, 2]):
        torch.testing.assert_close(
            minimised_gradients(decoder, cut(whole, sizes)), minimised_gradients(decoder, [whole]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("asked", [
    Balancing(), Balancing(z_loss_factor=0.3), Balancing(factor=0.3, form="sequence"),
    Balancing(factor=0.1, form="sequence", device_factor=0.1, device_groups=2, z_loss_factor=0.1),
])  # fmt: skip
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_eight_rows_in_1_2_4_or_8_micro_batches_give_the_same_gradients_and_figures(asked, scoring):
    """Of unequal numbers of targets, in float32; every tensor within a millionth of its largest gradient. Choices are never dropped."""
    decoder = tiny_decoder(experts=replace(EXPERTS, scoring=scoring)).train()
    decoder.balancing = asked
    parts = [random_batch(rows=1, tokens=16, seed=row, scored=0.05 if row % 3 else 1.0) for row in range(8)]
    whole = joined(parts)

    def step(sizes: list[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        decoder.zero_grad()
        found = gather(decoder, cut(whole, sizes), next_token, seed=0, step=0)
        return {name: parameter.grad for name, parameter in decoder.named_parameters() if parameter.grad is not None}, found.figures

    expected, figures = step([8])
    assert len(expected) == len(list(decoder.parameters()))
    for sizes in ([4, 4], [1, 5, 1, 1], [1] * 8):
        found, counted = step(sizes)
        for name, gradient in found.items():
            assert float((gradient - expected[name]).abs().max()) <= 1e-6 * float(expected[name].abs().max()), (name, sizes)
        for name, values in counted.items():
            torch.testing.assert_close(values, figures[name])


def test_in_the_batch_form_too_its_weight_does_not_grow_with_the_number_of_micro_batches():
    """Each micro-batch then balances itself, so values differ a little; n of them do not weigh n times as much."""
    decoder = tiny_decoder(experts=replace(EXPERTS, balance_form="batch")).train()
    whole = random_batch(rows=6, tokens=16, seed=1)
    together = float(next_token(decoder, whole).auxiliary["balance_loss"].detach())
    apart = sum(float(next_token(decoder, part).auxiliary["balance_loss"].detach()) for part in cut(whole, [1] * 6))
    assert apart == pytest.approx(together, rel=0.2)


def test_it_is_the_mean_over_layers_summed_times_the_targets():
    decoder, batch, routings = tiny_decoder(experts=EXPERTS).train(), random_batch(rows=2, tokens=10, seed=3), list[Routing]()
    decoder(batch.input_ids, positions=batch.positions, first_visible=batch.first_visible, routings=routings)
    expected = balance_loss(routings, EXPERTS).sum() * 10
    found = next_token(decoder, batch)
    assert len(routings) == 2
    torch.testing.assert_close(found.auxiliary["balance_loss"], expected)
    torch.testing.assert_close(found.minimised, found.loss_sum + expected)


def test_the_log_shows_load_entropy_and_drops_of_every_layer():
    decoder, batch = (
        tiny_decoder(experts=replace(EXPERTS, capacity_factor=0.6)).train(),
        random_batch(rows=3, tokens=10, seed=3, scored=0.5),
    )
    figures = next_token(decoder, batch).figures
    assert {name: tuple(values.shape) for name, values in figures.items()} == {
        "expert_load": (2, 4), "router_entropy": (2,), "drop_rate": (2,)
    }  # fmt: skip
    torch.testing.assert_close(figures["expert_load"].sum(1) / batch.target_weight, torch.ones(2))
    assert not any(values.requires_grad for values in figures.values())
    assert next_token(decoder.eval(), batch).figures == {} == next_token(tiny_decoder().train(), batch).figures


def test_only_training_with_a_factor_has_it():
    batch = random_batch(rows=2, tokens=10, seed=3)
    assert next_token(tiny_decoder(experts=EXPERTS).eval(), batch).auxiliary == {}
    assert next_token(tiny_decoder(experts=replace(EXPERTS, balance_factor=0.0)).train(), batch).auxiliary == {}
    dense = next_token(tiny_decoder().train(), batch)
    assert dense.auxiliary == {} and torch.equal(dense.minimised, dense.loss_sum)


def test_padding_is_left_out():
    """Two rows; the second holds 6 tokens and 4 of padding, whose ids then change nothing."""
    decoder, batch = tiny_decoder(experts=EXPERTS).train(), random_batch(rows=2, tokens=10, seed=3, packed=False)
    batch.targets[1, 5:], batch.positions[1, 6:] = IGNORED, 0
    batch.first_visible[1, 6:] = torch.arange(6, 10)
    assert holds_token(batch).tolist() == [[True] * 10, [True] * 6 + [False] * 4]
    first = next_token(decoder, batch).auxiliary["balance_loss"]
    batch.input_ids[1, 6:] = (batch.input_ids[1, 6:] + 7) % 30
    torch.testing.assert_close(next_token(decoder, batch).auxiliary["balance_loss"], first)
    batch.input_ids[1, 0] = (batch.input_ids[1, 0] + 7) % 30
    assert abs(float((next_token(decoder, batch).auxiliary["balance_loss"] - first).detach())) > 1e-4


def test_an_unscored_first_token_is_no_padding():
    """The first token of a dialogue sees itself alone and has no target, but more follows."""
    batch = random_batch(rows=1, tokens=6, seed=0, packed=False)
    batch.targets[0, 0] = IGNORED
    assert bool(holds_token(batch).all())
