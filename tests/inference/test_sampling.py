"""Laws of sampling: settings equal a slow reference, draws follow the distribution, and neighbours change nothing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.api import Constraint, Request, SamplingSettings
from beichen.inference.filters import keep_min_p, keep_top_k, keep_top_p
from beichen.inference.sampling import SampledRow, Sampler
from tests.inference.test_drawing import chi_square
from tests.inference.test_filters import random_logits

CPU = torch.device("cpu")


def row_of(vocab_size: int, *, prompt: list[int] | None = None, min_new_tokens: int = 0, stop_ids: Any = (), **sampling: Any) -> SampledRow:
    request = Request(
        prompt_ids=prompt or [0], max_new_tokens=1000, min_new_tokens=min_new_tokens, stop_ids=stop_ids,
        sampling=SamplingSettings(**sampling),
    )  # fmt: skip
    return SampledRow(request, vocab_size=vocab_size)


@pytest.mark.parametrize("settings", [{}, {"top_k": 12}, {"top_p": 0.8}, {"min_p": 0.05}, {"temperature": 0.5, "top_p": 0.95}])
def test_draws_follow_the_filtered_distribution(settings):
    """100,000 draws over 30 ids: chi-square below its 99.99 % point."""
    logits, draws = random_logits(1, 30, 4, 1.5), 100_000
    one = SamplingSettings(**{"temperature": 1.0, **settings})
    scores = logits / one.temperature
    if one.top_k:
        scores = keep_top_k(scores, torch.tensor([one.top_k]))
    if one.top_p:
        scores = keep_top_p(scores, torch.tensor([one.top_p]))
    if one.min_p:
        scores = keep_min_p(scores, torch.tensor([one.min_p]))
    shares = scores.double().softmax(1)
    sampler = Sampler(vocab_size=30, device=CPU)
    rows = [row_of(30, **{"temperature": 1.0, **settings, "seed": seed}) for seed in range(1000)]
    torch.testing.assert_close(sampler.probabilities(logits, rows[:1]).double(), shares)
    expected = shares[0].numpy() * draws
    counts = np.zeros(30)
    for _ in range(draws // 1000):
        ids = sampler.pick(logits.expand(1000, -1), rows).tolist()
        counts += np.bincount(ids, minlength=30)
        for row, token in zip(rows, ids, strict=True):
            row.note(token)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    freedom = possible.sum() - 1
    assert chi_square(counts[possible], expected[possible]) < freedom + 4 * np.sqrt(2 * freedom) + 10


def test_temperature_zero_takes_the_likeliest_and_stands_on_it_alone():
    logits = random_logits(5, 100, 6)
    sampler, rows = Sampler(vocab_size=100, device=CPU), [row_of(100, top_p=0.5, seed=1) for _ in range(5)]
    assert torch.equal(sampler.pick(logits, rows), logits.argmax(1))
    assert torch.equal(sampler.probabilities(logits, rows).argmax(1), logits.argmax(1))
    assert sampler.probabilities(logits, rows).sum(1).tolist() == [1.0] * 5


def random_row(rng: random.Random, vocab: int) -> dict[str, Any]:
    """Settings of a request, each on or off."""

    def maybe(value: Any, neutral: Any) -> Any:
        return value if rng.random() < 0.4 else neutral

    return {
        "prompt": [rng.randrange(vocab) for _ in range(rng.randint(1, 90))], "seed": rng.randrange(2**40),
        "temperature": maybe(rng.uniform(0.3, 2.0), 0.0), "top_k": maybe(rng.randint(1, 20), None),
        "top_p": maybe(rng.uniform(0.3, 1.0), None), "min_p": maybe(rng.uniform(0.0, 0.2), None),
        "repetition_penalty": maybe(rng.uniform(0.8, 1.6), 1.0), "presence_penalty": maybe(rng.uniform(-2, 2), 0.0),
        "frequency_penalty": maybe(rng.uniform(-2, 2), 0.0), "min_new_tokens": maybe(rng.randint(1, 20), 0),
        "stop_ids": rng.sample(range(vocab), 4),
        "logit_bias": maybe({rng.randrange(vocab): rng.uniform(-8, 8) for _ in range(5)}, {}),
    }  # fmt: skip


def slow_logits(logits: torch.Tensor, settings: dict[str, Any], answer: list[int]) -> torch.Tensor:
    """Penalties, bias and shortest length of one row, id by id."""
    result = logits.double().tolist()
    for token in range(len(result)):
        if token in settings["prompt"] or token in answer:
            result[token] *= 1 / settings["repetition_penalty"] if result[token] > 0 else settings["repetition_penalty"]
        result[token] -= settings["presence_penalty"] * (token in answer) + settings["frequency_penalty"] * answer.count(token)
        result[token] += settings["logit_bias"].get(token, 0.0)
        if token in settings["stop_ids"] and len(answer) < settings["min_new_tokens"]:
            result[token] = -torch.inf
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_penalties_bias_and_shortest_length_equal_a_slow_reference(seed):
    rng, vocab = random.Random(seed), 40
    settings = [{**random_row(rng, vocab), "temperature": 1.0, "top_k": None, "top_p": None, "min_p": None} for _ in range(6)]
    sampler, rows = Sampler(vocab_size=vocab, device=CPU), [row_of(vocab, **one) for one in settings]
    answers: list[list[int]] = [[] for _ in rows]
    for step in range(100):
        logits = random_logits(len(rows), vocab, 1000 * seed + step)
        before = logits.clone()
        shares, ids = sampler.probabilities(logits, rows), sampler.pick(logits, rows).tolist()
        assert torch.equal(logits, before)
        for number, one in enumerate(settings):
            torch.testing.assert_close(
                shares[number].double(), slow_logits(logits[number], one, answers[number]).softmax(0), atol=1e-5, rtol=1e-4
            )
            rows[number].note(ids[number])
            answers[number].append(ids[number])


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_that_join_and_leave_do_not_matter(seed):
    rng, vocab = random.Random(seed), 300
    settings = [random_row(rng, vocab) for _ in range(10)]
    logits = [random_logits(60, vocab, 100 * seed + number).bfloat16().float() for number in range(10)]  # with ties
    alone: list[list[int]] = []
    for number, one in enumerate(settings):
        sampler, row = Sampler(vocab_size=vocab, device=CPU), row_of(vocab, **one)
        alone.append([])
        for step in range(60):
            alone[-1].append(int(sampler.pick(logits[number][step : step + 1], [row])[0]))
            row.note(alone[-1][-1])
    together, rows = Sampler(vocab_size=vocab, device=CPU), [row_of(vocab, **one) for one in settings]
    answers: list[list[int]] = [[] for _ in rows]
    while any(len(answer) < 60 for answer in answers):
        running = [number for number, answer in enumerate(answers) if len(answer) < 60 and rng.random() < 0.7]
        rng.shuffle(running)
        if running:
            current = torch.stack([logits[number][len(answers[number])] for number in running])
            ids = together.pick(current, [rows[number] for number in running]).tolist()
            for number, token in zip(running, ids, strict=True):
                rows[number].note(token)
                answers[number].append(token)
    assert answers == alone


def test_a_bias_of_100_forces_and_of_minus_100_bans():
    sampler = Sampler(vocab_size=50, device=CPU)
    for seed in range(50):
        logits = random_logits(2, 50, seed)
        likeliest = int(logits[1].argmax())
        rows = [row_of(50, temperature=1.0, seed=seed, logit_bias={7: 100}), row_of(50, temperature=1.0, logit_bias={likeliest: -100})]
        ids = sampler.pick(logits, rows).tolist()
        assert ids[0] == 7 and ids[1] != likeliest


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-12])
def test_the_smallest_temperatures_draw_the_likeliest(temperature):
    """Float32 holds some of them as 0, by which nothing can be divided."""
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(1))
    rows = [row_of(50, temperature=temperature, repetition_penalty=penalty, seed=1) for penalty in (0.01, 0.5, 1.0, 2.0, 100.0)]
    assert Sampler(vocab_size=50, device=logits.device).pick(logits.clone(), rows).tolist() == logits.argmax(1).tolist()


def test_each_of_several_answers_has_a_seed_of_its_own_and_the_first_keeps_the_given():
    request = Request(prompt_ids=[1], max_new_tokens=5, sampling=SamplingSettings(temperature=1.0, seed=11))
    rows = [SampledRow(request, vocab_size=9, number=number) for number in range(5)]
    assert rows[0].seed == 11 and len({row.seed for row in rows}) == 5
    assert [row.seed for row in rows] == [SampledRow(request, vocab_size=9, number=number).seed for number in range(5)]
    unseeded = Request(prompt_ids=[1], max_new_tokens=5)
    assert SampledRow(unseeded, vocab_size=9).seed != SampledRow(unseeded, vocab_size=9).seed


@pytest.mark.parametrize(
    "bad",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1},
     {"min_p": 2.0}, {"repetition_penalty": 0.0}, {"repetition_penalty": 1e-30}, {"repetition_penalty": 101.0},
     {"presence_penalty": 2.5}, {"frequency_penalty": float("nan")},
     {"logit_bias": {3: 101}}, {"logit_bias": {-1: 1}}, {"logit_bias": {"3": 1}}, {"logit_bias": {3: float("nan")}}],
)  # fmt: skip
def test_values_out_of_range_are_named(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))) as caught:
        SamplingSettings(**bad)
    assert caught.value.field == next(iter(bad))


@pytest.mark.parametrize(
    "bad", [{"min_new_tokens": 6}, {"min_new_tokens": -1}, {"logprobs": -1}, {"logprobs": 101}, {"prompt_logprobs": 1000}]
)  # fmt: skip
def test_requests_out_of_range_are_named(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))) as caught:
        Request(prompt_ids=[1], max_new_tokens=5, **bad)
    assert caught.value.field == next(iter(bad))


@pytest.mark.parametrize("bad", [{}, {"regex": "a", "choices": ["b"]}, {"json_object": True, "json_schema": False}])
def test_a_constraint_is_exactly_one(bad):
    with pytest.raises(SettingsError, match=r"constraint=.*expected exactly one of json_schema"):
        Constraint(**bad)


def test_a_bias_for_an_id_that_the_model_does_not_have_is_named():
    with pytest.raises(SettingsError, match=r"logit_bias=.9: .*from 0 to 8"):
        row_of(9, logit_bias={9: 1.0})
