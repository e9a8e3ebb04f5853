"""Laws of sampling: which ids remain, how often each is drawn, and that neighbours change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.api import SamplingSettings
from beichen.inference.sampling import FIRST_LOOK, Sampler, draw, keep_min_p, keep_top_k, keep_top_p, penalize_repetition, uniform_numbers

CPU = torch.device("cpu")


def random_logits(rows: int, vocab: int, seed: int, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("seed", range(5))
def test_top_k_keeps_the_k_likeliest_of_each_row(seed):
    logits = random_logits(4, 50, seed)
    top_k = torch.tensor([1, 3, 49, 50])
    kept = keep_top_k(logits, top_k).isfinite()
    assert kept.sum(1).tolist() == top_k.tolist()
    for row in range(3):
        assert logits[row][kept[row]].min() > logits[row][~kept[row]].max()


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])  # flat rows need more than the first look
@pytest.mark.parametrize("vocab", [20, 3 * FIRST_LOOK])
def test_top_p_keeps_the_smallest_set_that_holds_the_mass(vocab, spread):
    logits = random_logits(6, vocab, vocab, spread)
    top_p = torch.tensor([0.001, 0.3, 0.5, 0.9, 0.99, 1.0], dtype=torch.float64)
    kept = keep_top_p(logits, top_p).isfinite()
    probabilities = logits.double().softmax(1)
    for row, wanted in enumerate(top_p.tolist()):
        mass = float(probabilities[row][kept[row]].sum())
        smallest = float(probabilities[row][kept[row]].min())
        assert mass >= wanted - 1e-6 and kept[row].any()
        assert wanted == 1.0 or mass - smallest < wanted + 1e-6  # without its least likely id the set would not do
    assert kept[5].all()


def test_min_p_is_relative_to_the_likeliest():
    logits = random_logits(3, 40, 1)
    min_p = torch.tensor([0.0, 0.1, 1.0])
    kept = keep_min_p(logits, min_p).isfinite()
    share = logits.softmax(1) / logits.softmax(1).amax(1, keepdim=True)
    assert kept[0].all() and kept[2].sum() == 1
    assert torch.equal(kept[1], share[1] >= 0.1)


def test_repetition_penalty_makes_seen_ids_less_likely_and_leaves_others():
    logits = random_logits(2, 30, 2)
    seen = torch.rand(2, 30, generator=torch.Generator().manual_seed(3)) < 0.5
    punished = penalize_repetition(logits, seen, torch.tensor([1.5, 1.0]))
    assert (punished[0][seen[0]] < logits[0][seen[0]]).all()
    assert torch.equal(punished[0][~seen[0]], logits[0][~seen[0]])
    assert torch.equal(punished[1], logits[1])


def test_equal_logits_stay_together():
    logits = torch.tensor([[1.0, 2.0, 1.0, 1.0, 0.0]])
    assert keep_top_k(logits, torch.tensor([2])).isfinite().tolist() == [[True, True, True, True, False]]


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("settings", [{}, {"top_k": 12}, {"top_p": 0.8}, {"min_p": 0.05}, {"temperature": 0.5, "top_p": 0.95}])
def test_draws_follow_the_distribution(settings):
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
    expected = scores.double().softmax(1)[0].numpy() * draws
    sampler = Sampler(
        [SamplingSettings(**{"temperature": 1.0, **settings, "seed": seed}) for seed in range(1000)], vocab_size=30, device=CPU
    )
    counts = np.zeros(30)
    for index in range(draws // 1000):
        counts += np.bincount(sampler.pick(logits.expand(1000, -1), index).numpy(), minlength=30)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    freedom = possible.sum() - 1
    assert chi_square(counts[possible], expected[possible]) < freedom + 4 * np.sqrt(2 * freedom) + 10


def test_uniform_numbers_are_uniform_along_seeds_and_indices():
    for seeds, indices in ((np.arange(100_000), np.zeros(100_000)), (np.full(100_000, 7), np.arange(100_000))):
        numbers = uniform_numbers(seeds.astype(np.uint64), indices.astype(np.uint64))
        counts = np.histogram(numbers, bins=50, range=(0, 1))[0]
        assert chi_square(counts, np.full(50, 2000.0)) < 110
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02


def test_draw_never_takes_what_was_filtered_even_at_the_last_number():
    logits = torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf]]).expand(3, -1)
    last = torch.nextafter(torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
    assert draw(logits, torch.stack([last * 0, last * 0.5, last])).tolist() == [0, 1, 1]


def test_temperature_zero_takes_the_likeliest():
    logits = random_logits(5, 100, 6)
    sampler = Sampler([SamplingSettings(top_p=0.5, seed=1)] * 5, vocab_size=100, device=CPU)
    assert torch.equal(sampler.pick(logits, 0), logits.argmax(1))


MIXED = [
    SamplingSettings(temperature=1.0, seed=1),
    SamplingSettings(),
    SamplingSettings(temperature=0.7, top_k=5, seed=2),
    SamplingSettings(temperature=1.5, top_p=0.9, min_p=0.02, seed=3),
    SamplingSettings(temperature=1.0, repetition_penalty=1.3, seed=4),
]


def test_neighbours_do_not_matter():
    logits = random_logits(len(MIXED), 500, 7).bfloat16().float()  # with ties
    together = Sampler(MIXED, vocab_size=500, device=CPU)
    alone = [Sampler([one], vocab_size=500, device=CPU) for one in MIXED]
    for index in range(200):
        ids = together.pick(logits, index)
        together.note(ids)
        for row, sampler in enumerate(alone):
            own = sampler.pick(logits[row : row + 1], index)
            sampler.note(own)
            assert own.item() == ids[row].item()
        if index == 100:
            together.keep_rows(torch.tensor([0, 2, 4]))
            logits, alone = logits[[0, 2, 4]], [alone[row] for row in (0, 2, 4)]


@pytest.mark.parametrize(
    "bad", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": 2.0}, {"repetition_penalty": 0.0}]
)
def test_values_out_of_range_are_named(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))):
        SamplingSettings(**bad)
