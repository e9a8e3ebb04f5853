"""Laws of filters and penalties: which ids remain, and how likely they look."""

from __future__ import annotations

import pytest
import torch

from beichen.inference.filters import FIRST_LOOK, keep_min_p, keep_top_k, keep_top_p, penalize


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


@pytest.mark.parametrize("seed", range(3))
def test_penalties_make_ids_less_likely_and_are_off_at_their_neutral_values(seed):
    values = random_logits(1, 60, seed)[0]
    counts = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(seed)).float()
    one, none = torch.ones(60), torch.zeros(60)
    assert torch.equal(penalize(values, counts, repetition=one, presence=none, frequency=none), values)
    assert (penalize(values, counts, repetition=1.5 * one, presence=none, frequency=none) < values).all()
    presence = penalize(values, counts, repetition=one, presence=0.7 * one, frequency=none)
    torch.testing.assert_close(presence, values - 0.7 * (counts > 0))
    torch.testing.assert_close(penalize(values, counts, repetition=one, presence=none, frequency=0.3 * one), values - 0.3 * counts)


def test_equal_logits_stay_together():
    logits = torch.tensor([[1.0, 2.0, 1.0, 1.0, 0.0]])
    assert keep_top_k(logits, torch.tensor([2])).isfinite().tolist() == [[True, True, True, True, False]]
