"""Laws of drawing: every id as often as it is likely, none that is impossible, and numbers that are uniform."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beichen.inference.drawing import draw, draw_from, uniform_numbers


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


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


@pytest.mark.parametrize("vocab", [1, 7, 255, 256, 257, 1000, 5000])
def test_draw_takes_the_id_at_which_the_cumulated_probability_passes_the_number(vocab):
    generator = torch.Generator().manual_seed(vocab)
    weights = torch.rand(40, vocab, generator=generator) * (torch.rand(40, vocab, generator=generator) < 0.3)
    weights[:, vocab // 2] += 0.01
    uniform = torch.rand(40, generator=generator, dtype=torch.float64)
    drawn = draw_from(weights, uniform)
    assert (weights.gather(1, drawn[:, None]) > 0).all()
    cumulated = torch.nn.functional.pad(weights.double().cumsum(1), (1, 0))
    shares = (cumulated / cumulated[:, -1:]).gather(1, torch.stack([drawn, drawn + 1], 1))
    assert (shares[:, 0] <= uniform + 1e-6).all() and (uniform - 1e-6 <= shares[:, 1]).all()


@pytest.mark.parametrize("vocab", [30, 700])
def test_draws_follow_the_distribution(vocab):
    """100,000 draws: chi-square below its 99.99 % point."""
    logits = torch.randn(1, vocab, generator=torch.Generator().manual_seed(vocab)) * 1.5
    counts = np.zeros(vocab)
    for index in range(100):
        numbers = uniform_numbers(np.arange(1000, dtype=np.uint64), np.full(1000, index, dtype=np.uint64))
        counts += np.bincount(draw(logits.expand(1000, -1), torch.from_numpy(numbers)).numpy(), minlength=vocab)
    freedom = vocab - 1
    assert chi_square(counts, logits.double().softmax(1)[0].numpy() * 100_000) < freedom + 4 * np.sqrt(2 * freedom) + 10
