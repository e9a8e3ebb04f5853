"""How unevenly experts are used, against arithmetic by hand and slow loops over tokens; what is counted adds up to the choices."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.nn.balancing import Balancing, asked_losses, balance_loss, usage, usage_figures
from beichen.nn.config import ExpertsConfig
from beichen.nn.routing import Routing, route


def experts(**changes: Any) -> ExpertsConfig:
    return ExpertsConfig(**{"num_experts": 4, "num_experts_per_token": 2, "intermediate_size": 3, **changes})


def routing_of(scores: Tensor, chosen: Tensor) -> Routing:
    return Routing(logits=scores.log(), scores=scores, chosen=chosen, weights=scores.gather(-1, chosen))


def balance(routing: Routing, config: ExpertsConfig, counted: Tensor | None = None) -> Tensor:
    """Of one layer.  -> [rows]"""
    return balance_loss([routing], config, counted)[0]


# The expert (batch) form by hand: 2 rows of 2 tokens, one choice of 2 experts; expert 0 has 3 of 4 choices.
# Its mean score is (0.9 + 0.6 + 0.8 + 0.3) / 4 = 0.65: 2 x (0.75 x 0.65 + 0.25 x 0.35) = 1.15.
# By rows: row 0: 2 x (1 x 0.75 + 0 x 0.25) = 1.5; row 1: 2 x (0.5 x 0.55 + 0.5 x 0.45) = 1.
SCORES = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.3, 0.7]]])
CHOSEN = torch.tensor([[[0], [0]], [[0], [1]]])


def test_balance_by_hand():
    config = experts(num_experts=2, num_experts_per_token=1, balance_factor=0.1)
    routing = routing_of(SCORES, CHOSEN)
    torch.testing.assert_close(balance(routing, config), torch.tensor([0.115, 0.115]))
    torch.testing.assert_close(balance(routing, replace(config, balance_form="sequence")), torch.tensor([0.15, 0.1]))


def test_balance_leaves_out_what_is_not_counted():
    """Without the last token of row 0: 2 x (1 x 0.9) by row; over both rows 2 x (2/3 x 2/3 + 1/3 x 1/3) with means 2 / 3 and 1 / 3."""
    config = experts(num_experts=2, num_experts_per_token=1, balance_factor=1.0)
    counted = torch.tensor([[True, False], [True, True]])
    routing = routing_of(SCORES, CHOSEN)
    torch.testing.assert_close(balance(routing, replace(config, balance_form="sequence"), counted), torch.tensor([1.8, 1.0]))
    torch.testing.assert_close(balance(routing, config, counted), torch.full((2,), 2 * (4 / 9 + 1 / 9)))
    nothing = balance(routing, replace(config, balance_form="sequence"), torch.zeros(2, 2, dtype=torch.bool))
    assert nothing.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("form", ["sequence", "batch"])
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_perfect_balance_costs_the_factor_and_anything_else_more(form, scoring):
    config = experts(balance_factor=0.01, balance_form=form, scoring=scoring)
    scores = torch.full((2, 4, 4), 0.25)
    even = torch.tensor([[[0, 1], [2, 3], [0, 1], [2, 3]]] * 2)
    torch.testing.assert_close(balance(routing_of(scores, even), config), torch.full((2,), 0.01))
    biased = scores + torch.tensor([0.2, 0.0, 0.0, -0.2])
    uneven = torch.tensor([[[0, 1], [0, 2], [0, 1], [0, 2]]] * 2)
    assert bool((balance(routing_of(biased, uneven), config) > 0.01).all())


@pytest.mark.parametrize("form", ["sequence", "batch"])
def test_balance_gives_its_gradient_through_scores_alone(form):
    """Choices are counts: moving a score without changing them moves the loss by the share of that expert."""
    config = experts(num_experts=2, num_experts_per_token=1, balance_factor=1.0, balance_form=form)
    scores = SCORES.double().requires_grad_()
    balance(routing_of(scores, CHOSEN), config).sum().backward()
    shares = torch.tensor([[1.0, 0.0], [0.5, 0.5]]) if form == "sequence" else torch.tensor([[0.75, 0.25]] * 2)
    per_token = 2.0 / 2 if form == "sequence" else 2.0 * 2 / 4  # experts x rows that pay / tokens of the mean
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, (per_token * shares[:, None]).expand(2, 2, 2).double())


@pytest.mark.parametrize("form", ["sequence", "batch"])
def test_layers_do_not_mix(form):
    config = experts(num_experts=2, num_experts_per_token=1, balance_factor=1.0, balance_form=form)
    routings = [routing_of(SCORES, CHOSEN), routing_of(1 - SCORES, CHOSEN), routing_of(SCORES, 1 - CHOSEN)]
    torch.testing.assert_close(balance_loss(routings, config), torch.stack([balance(routing, config) for routing in routings]))


LAYERS, ROWS, TOKENS, NUMBER, CHOICES = 2, 3, 7, 6, 2


def random_routings(seed: int, scoring: Any, **options: Any) -> tuple[list[Routing], ExpertsConfig, Tensor]:
    """In float64. counted: each row has padding at its end, the last row is empty."""
    config = experts(num_experts=NUMBER, num_experts_per_token=CHOICES, scoring=scoring)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(LAYERS, ROWS, TOKENS, 5, generator=generator, dtype=torch.float64)
    router = torch.randn(LAYERS, NUMBER, 5, generator=generator, dtype=torch.float64)
    counted = torch.arange(TOKENS) < torch.tensor([[7], [4], [0]])
    return [route(one, matrix, config, **options) for one, matrix in zip(x, router, strict=True)], config, counted


def slow(routing: Routing, rows: list[int], counted: Tensor, scoring: str, groups: int) -> dict[str, float]:
    """One layer over these rows, token by token; the unevenness among ``groups`` groups of neighbours."""
    tokens = [(row, token) for row in rows for token in range(TOKENS) if counted[row, token]]
    if not tokens:
        return {"uneven": 0.0, "z": 0.0, "entropy": 0.0, "dropped": 0.0}
    share, mean = [0.0] * groups, [0.0] * groups
    z = entropy = dropped = 0.0
    for row, token in tokens:
        logits = [float(value) for value in routing.logits[row, token]]
        scores = [math.exp(value) if scoring == "softmax" else 1 / (1 + math.exp(-value)) for value in logits]
        z += math.log(sum(math.exp(value) for value in logits)) ** 2 / len(tokens)
        for expert, score in enumerate(scores):
            p = score / sum(scores)
            mean[expert * groups // NUMBER] += p / len(tokens)
            entropy -= p * math.log(p) / len(tokens)
        for choice in range(CHOICES):
            share[int(routing.chosen[row, token, choice]) * groups // NUMBER] += 1 / (CHOICES * len(tokens))
            if routing.kept is not None and not routing.kept[row, token, choice]:
                dropped += 1 / (CHOICES * len(tokens))
    uneven = groups * sum(left * right for left, right in zip(share, mean, strict=True))
    return {"uneven": uneven, "z": z, "entropy": entropy, "dropped": dropped}


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("form", ["sequence", "batch"])
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_every_loss_and_figure_equals_a_slow_loop(scoring, form, groups):
    routings, config, counted = random_routings(1, scoring, capacity_factor=0.8)
    used = usage(routings, config, counted)
    asked = Balancing(factor=0.3, form=form, device_factor=0.7, device_groups=groups, z_loss_factor=0.2)
    losses, figures = asked_losses(used, asked), usage_figures(routings, used)
    assert set(losses) == {"balance_loss", "device_balance_loss", "z_loss"}
    assert set(figures) == {"expert_load", "router_entropy", "drop_rate"}
    for layer, routing in enumerate(routings):
        for row in range(ROWS):
            over = list(range(ROWS)) if form == "batch" else [row]
            alone = slow(routing, [row], counted, scoring, groups)
            found = {name: float(values[layer, row]) for name, values in {**losses, **figures}.items() if name != "expert_load"}
            assert found == pytest.approx({
                "balance_loss": 0.3 * slow(routing, over, counted, scoring, NUMBER)["uneven"],
                "device_balance_loss": 0.7 * slow(routing, over, counted, scoring, groups)["uneven"],
                "z_loss": 0.2 * alone["z"], "router_entropy": alone["entropy"], "drop_rate": alone["dropped"],
            }, rel=1e-9)  # fmt: skip


def test_every_choice_is_counted_once():
    routings, config, counted = random_routings(2, "softmax")
    used = usage(routings, config, counted)
    assert used.choices.sum(-1).tolist() == [[14.0, 8.0, 0.0]] * LAYERS  # tokens x choices
    load = usage_figures(routings, used)["expert_load"]
    torch.testing.assert_close(load.sum(-1), torch.tensor([[1.0, 1.0, 0.0]] * LAYERS, dtype=torch.float64))
    assert "drop_rate" not in usage_figures(routings, used)


def test_groups_of_one_are_the_experts_themselves():
    routings, config, counted = random_routings(3, "softmax")
    losses = asked_losses(usage(routings, config, counted), Balancing(factor=0.5, device_factor=0.5, device_groups=NUMBER))
    torch.testing.assert_close(losses["balance_loss"], losses["device_balance_loss"])


def test_the_batch_form_is_the_expert_form_of_the_originals():
    """MindFormers: E x sum over experts of (mean of the one-hot choices over tokens and choices) x (mean score over tokens)."""
    routings, config, _ = random_routings(4, "softmax")
    routing = routings[0]
    chosen = torch.nn.functional.one_hot(routing.chosen.flatten(), NUMBER).double().mean(0)
    expected = NUMBER * (chosen * routing.scores.flatten(0, 1).mean(0)).sum()
    torch.testing.assert_close(balance(routing, replace(config, balance_factor=1.0)), expected.expand(ROWS))


def test_what_is_not_asked_for_is_not_computed():
    routings, config, counted = random_routings(5, "softmax")
    assert asked_losses(usage(routings, config, counted), Balancing()) == {}


@pytest.mark.parametrize("name", ["factor", "device_factor", "z_loss_factor"])
@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("form", ["sequence", "batch"])
def test_the_router_s_gradient_equals_finite_differences(name, scoring, form):
    config = experts(num_experts=NUMBER, num_experts_per_token=CHOICES, scoring=scoring)
    asked = Balancing(**{name: 1.0, "form": form, "device_groups": 3})
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, TOKENS, 5, generator=generator, dtype=torch.float64)
    router = torch.randn(NUMBER, 5, generator=generator, dtype=torch.float64).requires_grad_()
    counted = torch.arange(TOKENS) < torch.tensor([[7], [4], [2]])

    def loss(matrix: Tensor) -> Tensor:
        (values,) = asked_losses(usage([route(x, matrix, config)], config, counted), asked).values()
        return values.sum()

    loss(router).backward()
    assert router.grad is not None and float(router.grad.abs().max()) > 1e-3
    for place in range(router.numel()):
        step = torch.zeros(router.numel(), dtype=torch.float64).index_fill(0, torch.tensor([place]), 1e-6).view_as(router)
        slope = float(loss(router.detach() + step) - loss(router.detach() - step)) / 2e-6
        assert float(router.grad.flatten()[place]) == pytest.approx(slope, rel=1e-5, abs=1e-8)
