"""Routing: who is chosen with what weight, and how many an expert serves, against arithmetic by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from beichen.nn.config import ExpertsConfig
from beichen.nn.routing import Routing, capacity, places, route, within_capacity


def experts(**changes: Any) -> ExpertsConfig:
    return ExpertsConfig(**{"num_experts": 4, "num_experts_per_token": 2, "intermediate_size": 3, **changes})


def scored(x: list[float], **changes: Any) -> Routing:
    """One token whose logits are ``x``."""
    return route(torch.tensor([[x]]), torch.eye(len(x)), experts(**changes), capacity_factor=None)


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
    routing = route(x, router, experts(), capacity_factor=None)
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
    config = experts()  # an expert serves ceil(6 choices x 0.5 / 4 experts) = 1
    routing = route(x, torch.eye(4), config, capacity_factor=0.5)
    assert routing.kept is not None and routing.kept.tolist() == [[[True, True], [False, False], [False, False]]]
    torch.testing.assert_close(routing.effective_weights[0, 0], routing.weights[0, 0])
    assert routing.effective_weights[0, 1:].count_nonzero() == 0
    assert route(x, torch.eye(4), config, capacity_factor=None).kept is None


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_bias_enters_the_choice_and_not_the_weight(scoring, normalize):
    """Lifted over the others, expert 2 is chosen first, with the weight of its own score."""
    logits, bias = [0.0, 2.0, -1.0, 1.0], torch.tensor([0.0, 0.0, 5.0, 0.0])
    config = experts(scoring=scoring, normalize_top_k=normalize)
    plain = scored(logits, scoring=scoring)
    lifted = route(torch.tensor([[logits]]), torch.eye(4), config, bias=bias)
    assert lifted.chosen.tolist() == [[[2, 1]]] and torch.equal(lifted.scores, plain.scores)
    expected = plain.scores[0, 0, [2, 1]]
    torch.testing.assert_close(lifted.weights[0, 0], expected / expected.sum() if normalize else expected)


def test_a_bias_alike_for_all_changes_nothing():
    x = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    plain, lifted = (route(x, torch.eye(4), experts(), bias=bias) for bias in (None, torch.full((4,), 0.3)))
    assert torch.equal(plain.chosen, lifted.chosen) and torch.equal(plain.weights, lifted.weights)
