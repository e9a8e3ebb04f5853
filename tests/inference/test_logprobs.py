"""Law: what is told of a token is the log-softmax of the model's own logits."""

from __future__ import annotations

import math
import random

import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.api import Completion, Request, TokenLogprob
from beichen.inference.logprobs import best_of, prompt_logprobs, token_logprobs
from tests.inference.small_models import small_decoder
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


@pytest.mark.parametrize("part_tokens", [1, 3, 16, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_those_of_a_prompt_are_of_one_plain_pass_whatever_the_parts(seed, part_tokens):
    """Also beyond the trained length, where the rope rule depends on the length."""
    rng = random.Random(seed)
    decoder, ids = small_decoder(seed), [rng.randrange(320) for _ in range(rng.choice([1, 2, 40, 150]))]
    work = prompt_logprobs(
        decoder, Request(prompt_ids=ids, max_new_tokens=9, prompt_logprobs=2), vocab_size=300, part_tokens=part_tokens
    )  # fmt: skip
    rests = []
    while True:
        try:
            rests.append(next(work))
        except StopIteration as end:
            told = end.value
            break
    with torch.inference_mode():
        plain = decoder.logits(decoder(torch.tensor([ids]), rope_length=len(ids) + 9))[0, :, :300].log_softmax(1)
    assert told[0] is None and [one.id for one in told[1:]] == ids[1:]
    assert rests == [False] * ((len(ids) - 1) // part_tokens)
    for one, row in zip(told[1:], plain, strict=False):
        wanted = float(row[one.id]) if one.id < 300 else -math.inf
        assert one.logprob == pytest.approx(wanted, abs=1e-4) and len(one.top) == 2


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
