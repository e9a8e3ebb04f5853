"""Law: what is told of a token is the log-softmax of the model's own logits."""

from __future__ import annotations

import math
import random

import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.api import Completion, TokenLogprob
from beichen.inference.logprobs import best_of, token_logprobs
from tests.inference.test_filters import random_logits


@pytest.mark.parametrize("seed", range(4))
def test_logprobs_equal_log_softmax(seed):
    rng = random.Random(seed)
    logits = random_logits(9, 40, seed)
    ids = [rng.randrange(40) for _ in range(9)]
    counts = [rng.choice([None, 0, 1, 5, 40, 100]) for _ in range(9)]
    expected = logits.double().log_softmax(1)
    for row, one in enumerate(token_logprobs(logits, ids, counts)):
        count = counts[row]
        if count is None:
            assert one is None
            continue
        assert one is not None and one.id == ids[row]
        assert one.logprob == pytest.approx(float(expected[row, ids[row]]), abs=1e-5)
        assert len(one.top) == min(count, 40)
        for (token, value), wanted in zip(one.top, expected[row].sort(descending=True).values.tolist(), strict=False):
            assert value == pytest.approx(wanted, abs=1e-5) and float(expected[row, token]) == pytest.approx(wanted, abs=1e-5)


def test_nobody_asks_and_nothing_is_computed():
    assert token_logprobs(torch.full((3, 4), torch.nan), [0, 1, 2], [None] * 3) == [None] * 3


def test_an_id_without_a_column_is_impossible():
    (one,) = token_logprobs(torch.zeros(1, 4), [9], [2])
    assert one is not None and one.logprob == -math.inf and [value for _, value in one.top] == [pytest.approx(-math.log(4))] * 2


def answer(*logprobs: float) -> Completion:
    told = tuple(TokenLogprob(id=0, logprob=value) for value in logprobs)
    return Completion(text=str(logprobs), ids=(0,) * len(logprobs), finish_reason="stop", logprobs=told)


def test_the_best_answers_are_the_likeliest_per_token():
    answers = [answer(-1.0, -3.0), answer(-1.5), answer(-1.0, -1.0, -1.0, -1.0), answer(-1.5, -1.5)]
    assert best_of(answers, 3) == [answers[2], answers[1], answers[3]]
    with pytest.raises(SettingsError, match="logprobs=None"):
        best_of([Completion(text="", ids=(1,), finish_reason="stop")], 1)
