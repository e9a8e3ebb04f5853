"""Rounding at random is right on average, exactly; its words follow from key and place; the kernel does the same, bit for bit."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.nn import kernels
from beichen.nn.stochastic_rounding import random_words, round_stochastically, with_words
from tests import needs


@settings(max_examples=25)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**127), max_value=2.0**127))
def test_the_mean_over_all_words_is_the_number(value):
    """Law: over the 65,536 lower halves that a word may have, the mean is the value itself; and only its two neighbours occur."""
    rounded = with_words(torch.full((1 << 16,), value), torch.arange(1 << 16)).double()
    assert float(rounded.sum()) == math.fsum([value] * (1 << 16))
    assert len(rounded.unique()) == (1 if struct.pack("<f", value)[:2] == b"\0\0" else 2)


def test_what_has_no_neighbours_stays():
    special = torch.tensor([math.inf, -math.inf, 0.0, -0.0, 1.0, -2.5])
    words = torch.full((6,), 0xFFFF)
    assert torch.equal(with_words(special, words).float(), special)
    assert with_words(torch.tensor([math.nan]), words[:1]).isnan().all()


def test_words_follow_from_key_and_place():
    places = torch.arange(1000)
    assert torch.equal(random_words(places, 77)[300:], random_words(places[300:], 77))
    assert not torch.equal(random_words(places, 77), random_words(places, 78))
    assert not torch.equal(random_words(places, 77), random_words(places, 77 + (1 << 32)))


@pytest.mark.parametrize("key", [0, 1, 1 << 40, (1 << 63) - 1])
def test_words_are_spread_evenly(key):
    """Each of 16 bits is set in half of 2^18 places, within 5 standard deviations; so is each pair's equality, and a neighbour's."""
    words = random_words(torch.arange(1 << 18), key)
    bits = (words[:, None] >> torch.arange(16)) & 1
    allowed = 5 * math.sqrt(0.25 / (1 << 18))
    assert float((bits.double().mean(0) - 0.5).abs().max()) < allowed
    signs = 2.0 * bits.double() - 1.0
    together = signs.T @ signs / len(signs) - torch.eye(16, dtype=torch.float64)
    assert float(together.abs().max()) < 2 * allowed
    assert float((signs[1:] * signs[:-1]).mean(0).abs().max()) < 2 * allowed


@needs.compiled_kernels
@pytest.mark.parametrize("count", [1, 16, 37, 40_000])
@pytest.mark.parametrize(("key", "first"), [(0, 0), (123456789123, 5), ((1 << 63) - 1, (1 << 32) - 3)])
def test_the_kernel_gives_the_same_bits(count, key, first):
    generator = torch.Generator().manual_seed(count)
    values = torch.randint(-(1 << 31), 1 << 31, (count,), generator=generator).int().view(torch.float32)  # every kind of number
    ours, slow = torch.empty(count, dtype=torch.bfloat16), torch.empty(count, dtype=torch.bfloat16)
    kernels.round_stochastically(values, ours, key=key, first=first)
    with kernels.switched_off():
        round_stochastically(values, slow, key=key, first=first)
    assert torch.equal(ours.view(torch.int16), slow.view(torch.int16))
    whole, parts = torch.empty_like(ours), torch.empty_like(ours)
    round_stochastically(values, whole, key=key)
    for begin in range(0, count, 10_000):
        round_stochastically(values[begin : begin + 10_000], parts[begin : begin + 10_000], key=key, first=begin)
    assert torch.equal(whole.view(torch.int16), parts.view(torch.int16))
