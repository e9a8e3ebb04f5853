"""The cache gives back what was stored, in order, through any sequence of appending."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from beichen.nn.cache import DenseCache
from beichen.nn.config import DecoderConfig
from beichen.nn.visibility import visible

CONFIG = DecoderConfig(
    vocab_size=8, hidden_size=8, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=4, intermediate_size=8,
    max_position_embeddings=16,
)  # fmt: skip


@given(st.integers(0, 10**6))
def test_it_gives_back_what_was_stored(seed):
    """Against plain lists of columns: append, advance, on and on."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    rows = rng.randint(1, 5)
    cache = DenseCache(CONFIG, rows=rows, capacity=24, dtype=torch.float32)
    stored = torch.empty(2, CONFIG.num_hidden_layers, rows, 0, 2, 4)  # keys and values, [layer, row, column, head, channel]
    while True:
        tokens = rng.randint(1, 6)
        if stored.shape[3] + tokens > 24:
            break
        new = torch.randn(2, CONFIG.num_hidden_layers, stored.shape[2], tokens, 2, 4, generator=generator)
        stored = torch.cat((stored, new), dim=3)
        for layer in range(CONFIG.num_hidden_layers):
            found = cache.append(layer, new[0, layer], new[1, layer])
            for block, expected in zip(found, stored[:, layer], strict=True):
                assert torch.equal(block, expected.transpose(1, 2))
        cache.advance(tokens)
        assert cache.length == stored.shape[3]


def test_a_full_cache_says_so():
    cache = DenseCache(CONFIG, rows=1, capacity=5, dtype=torch.float32)
    cache.append(0, torch.zeros(1, 4, 2, 4), torch.zeros(1, 4, 2, 4))
    cache.advance(4)
    with pytest.raises(ValueError, match="cache of 5 columns is full: 6"):
        cache.append(0, torch.zeros(1, 2, 2, 4), torch.zeros(1, 2, 2, 4))


@given(st.integers(0, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_who_sees_whom(past, tokens, seed):
    rng = random.Random(seed)
    starts = torch.tensor([[rng.randint(0, past + token) for token in range(tokens)] for _ in range(2)], dtype=torch.int32)
    mask = visible(starts, past=past, columns=past + tokens)
    assert mask.shape == (2, 1, tokens, past + tokens)
    for row in range(2):
        for token in range(tokens):
            seen = [column for column in range(past + tokens) if mask[row, 0, token, column]]
            assert seen == list(range(int(starts[row, token]), past + token + 1))


def test_its_mask_follows_the_columns():
    """One mask serves all layers of a forward, and the next forward gets its own."""
    cache = DenseCache(CONFIG, rows=2, capacity=9, dtype=torch.float32)
    assert cache.mask(None, 1) is None  # one new column sees all
    starts = torch.tensor([[0, 0, 2], [0, 1, 1]], dtype=torch.int32)
    first = cache.mask(starts, 3)
    assert first is not None and cache.mask(starts, 3) is first and torch.equal(first, visible(starts, past=0, columns=3))
    cache.advance(3)
    later = cache.mask(starts[:, :2], 2)
    assert later is not None and torch.equal(later, visible(starts[:, :2], past=3, columns=5))
