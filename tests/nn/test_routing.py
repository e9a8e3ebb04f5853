"""Routing: who is chosen with what weight, how many an expert serves, and how uneven the choices are, against arithmetic by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.nn.config import ExpertsConfig
from beichen.nn.routing import Routing, balance_loss, capacity, places, route, within_capacity


def experts(**changes: Any) -> ExpertsConfig:
    return ExpertsConfig(**{"num_experts": 4, "num_experts_per_token": 2, "intermediate_size": 3, **changes})


def scored(x: list[float], **changes: Any) -> Routing:
    """One token whose logits are ``x``."""
    return route(torch.tensor([[x]]), torch.eye(len(x)), experts(**changes), limited=False)


def test_the_best_are_chosen_by_falling_score():
    routing = scored([0.0, 2.0, -1.0, 1.0])
    total = sum(2.718281828459045**logit for logit in (0.0, 2.0, -1.0, 1.0))
    assert routing.chosen.tolist() == [[[1, 3]]]
    torch.testing.assert_close(routing.weights[0, 0], torch.tensor([2.718281828459045**2 / total, 2.718281828459045 / total]))
    torch.testing.assert_close(routing.scores.sum(), torch.tensor(1.0))


def test_renormalised_weights_sum_to_one_and_keep_their_ratio():
    plain, normed = scored([0.0, 2.0, -1.0, 1.0]), scored([0.0, 2.0, -1.0, 1.0], normalize_top_k=True)
    torch.testing.assert_close(normed.weights.sum(), torch.tensor(1.0))
    torch.testing.assert_close(normed.weights[..., 0] / normed.weights[..., 1], plain.weights[..., 0] / plain.weights[..., 1])


def test_sigmoid_scores_every_expert_alone():
    routing = scored([0.0, 2.0, -1.0, 1.0], scoring="sigmoid")
    torch.testing.assert_close(routing.scores[0, 0], torch.tensor([0.5, 0.880797, 0.268941, 0.731059]))
    assert routing.chosen.tolist() == [[[1, 3]]]


def test_scores_are_float32_whatever_the_model_computes_in():
    generator = torch.Generator().manual_seed(0)
    x, router = torch.randn(2, 3, 8, generator=generator).bfloat16(), torch.randn(4, 8, generator=generator).bfloat16()
    routing = route(x, router, experts(), limited=False)
    assert routing.logits.dtype == routing.weights.dtype == torch.float32
    torch.testing.assert_close(routing.logits, x.float() @ router.float().T)


# Capacity, by hand: 3 tokens, 2 choices, 2 experts. Asked in this order: first choices 0, 0, 0, then second choices 1, 1, 1.
def test_first_choices_come_before_second_ones_and_early_tokens_before_late_ones():
    chosen = torch.tensor([[[0, 1], [0, 1], [0, 1]]])
    assert (
        capacity(chosen, 2, 0.5) == 2 and capacity(chosen, 2, 0.6) == 2 and capacity(chosen, 2, 0.7) == 3 and capacity(chosen, 2, 9.0) == 3
    )
    assert within_capacity(chosen, 2, 2).tolist() == [[[True, True], [True, True], [False, False]]]
    crossed = torch.tensor([[[1, 0], [0, 1], [0, 1]]])  # token 0 asks for expert 0 only after tokens 1 and 2 have
    assert within_capacity(crossed, 2, 2).tolist() == [[[True, False], [True, True], [True, False]]]


@pytest.mark.parametrize("seed", range(5))
def test_capacity_equals_a_slow_queue(seed):
    rng = random.Random(seed)
    rows, tokens, choices, number, limit = rng.randint(1, 3), rng.randint(1, 9), rng.randint(1, 3), rng.randint(3, 6), rng.randint(1, 4)
    chosen = torch.tensor([[rng.sample(range(number), choices) for _ in range(tokens)] for _ in range(rows)])
    served = [0] * number
    expected = torch.zeros_like(chosen, dtype=torch.bool)
    for choice in range(choices):
        for row in range(rows):
            for token in range(tokens):
                expert = int(chosen[row, token, choice])
                expected[row, token, choice] = served[expert] < limit
                served[expert] += 1
    assert torch.equal(within_capacity(chosen, number, limit), expected)
    asked = chosen.flatten()
    assert places(asked, number).tolist() == [int((asked[:place] == expert).sum()) for place, expert in enumerate(asked)]


def test_a_dropped_choice_counts_nothing_and_the_others_are_not_rescaled():
    x = torch.tensor([[[2.0, 1.0, 0.0, 0.0]] * 3])
    config = experts(capacity_factor=0.5)  # ceil(6 choices x 0.5 / 4 experts) = 1
    routing = route(x, torch.eye(4), config, limited=True)
    assert routing.kept is not None and routing.kept.tolist() == [[[True, True], [False, False], [False, False]]]
    torch.testing.assert_close(routing.effective_weights[0, 0], routing.weights[0, 0])
    assert routing.effective_weights[0, 1:].count_nonzero() == 0
    assert route(x, torch.eye(4), config, limited=False).kept is None


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
