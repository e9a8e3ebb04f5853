"""Attention equals explicit softmax loops over the interval ``first_visible .. own column``, however rows are laid out."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.attention import Attention, attention
from beichen.nn.cache import DenseCache
from beichen.nn.config import DecoderConfig
from beichen.nn.places import Places
from tests import needs
from tests.nn.slow_decoder import packed_row, slow_attention

HEADS = [(4, 4), (4, 2), (6, 1)]  # multi-head, grouped, multi-query


def starts_of(layout: str, rows: int, tokens: int, past: int, rng: random.Random) -> Tensor | None:
    """first_visible of new columns ``past .. past + tokens - 1``."""
    if layout == "causal":
        return None
    if layout == "left-padded":  # each row's first real column
        firsts = torch.tensor([[rng.randrange(past + 1)] for _ in range(rows)], dtype=torch.int32)
        return firsts.expand(rows, tokens).contiguous()
    lengths = [[rng.randint(1, 5) for _ in range(past + tokens)] for _ in range(rows)]
    return torch.cat([packed_row(row)[1][:, past : past + tokens] for row in lengths])


@pytest.mark.parametrize("layout", ["causal", "left-padded", "packed"])
@pytest.mark.parametrize(("heads", "groups"), HEADS)
@pytest.mark.parametrize("past", [0, 1, 9])
def test_equals_explicit_softmax(heads, groups, past, layout):
    rng = random.Random(heads * 100 + past)
    generator = torch.Generator().manual_seed(heads + past)
    for tokens in (1, 2, 11):
        query = torch.randn(3, tokens, heads, 6, generator=generator) * 2
        key, value = torch.randn(2, 3, past + tokens, groups, 6, generator=generator).unbind(0)
        starts = starts_of(layout, 3, tokens, past, rng)
        found = attention(query, key.transpose(1, 2), value.transpose(1, 2), starts, past=past)
        seen = torch.zeros(3, tokens, dtype=torch.int32) if starts is None else starts
        expected = slow_attention(query.double(), key.double(), value.double(), seen, past)
        torch.testing.assert_close(found.double(), expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize(("heads", "groups"), HEADS)
def test_what_is_out_of_sight_cannot_matter(heads, groups):
    """Keys and values before the interval or behind the query may hold anything, NaN excepted, and nothing moves."""
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(2, 7, heads, 4, generator=generator)
    key, value = torch.randn(2, 2, groups, 7, 4, generator=generator).unbind(0)
    starts = torch.tensor([[0, 0, 2, 2, 2, 5, 5], [0, 1, 1, 1, 1, 1, 6]], dtype=torch.int32)
    before = attention(query, key, value, starts)
    for row in range(2):
        for column in range(7):
            hidden = [other for other in range(7) if not int(starts[row, column]) <= other <= column]
            changed_key, changed_value = key.clone(), value.clone()
            changed_key[row, :, hidden], changed_value[row, :, hidden] = 50.0, -1e4
            after = attention(query, changed_key, changed_value, starts)
            assert torch.equal(after[row, column], before[row, column])


def small_attention(dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[DecoderConfig, Attention]:
    settings: dict[str, Any] = {
        "vocab_size": 8, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 8, "max_position_embeddings": 64,
    }  # fmt: skip
    config = DecoderConfig(**{**settings, **changes})
    module = Attention(config)
    generator = torch.Generator().manual_seed(7)
    for parameter in module.parameters():
        parameter.data.normal_(0.0, 0.4, generator=generator)
    return config, module.to(dtype).eval()


def sample(rows: int, tokens: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(rows, tokens, 24, generator=generator).to(dtype)
    angles = torch.rand(rows, tokens, 4, generator=generator) * 6
    return x, angles.cos(), angles.sin()


@pytest.mark.parametrize("changes", [{}, {"query_key_norm": True}, {"query_key_value_bias": True, "attention_output_bias": True}])
@pytest.mark.parametrize("layout", ["causal", "left-padded", "packed"])
def test_chunks_through_a_cache_equal_one_pass(changes, layout):
    config, module = small_attention(**changes)
    x, cos, sin = sample(3, 20)
    starts = starts_of(layout, 3, 20, 0, random.Random(1))
    with torch.no_grad():
        whole = module(x, Places(cos, sin, first_visible=starts))
        for sizes in ([20], [1] * 20, [7, 1, 12], [19, 1]):
            cache = DenseCache(config, rows=3, capacity=23, dtype=torch.float32)
            parts, begin = [], 0
            for size in sizes:
                part = slice(begin, begin + size)
                seen = None if starts is None else starts[:, part]
                parts.append(module(x[:, part], Places(cos[:, part], sin[:, part], first_visible=seen), cache))
                cache.advance(size)
                begin += size
            torch.testing.assert_close(torch.cat(parts, 1), whole, atol=2e-5, rtol=0)  # values of size 10


def test_dropout_acts_in_training_alone():
    _, module = small_attention(attention_dropout=0.5)
    x, cos, sin = sample(2, 9)
    inputs = (x, Places(cos, sin))
    assert torch.equal(module(*inputs), module(*inputs))
    module.train()
    assert not torch.equal(module(*inputs), module(*inputs))


@needs.compiled_kernels
@pytest.mark.parametrize("layout", ["causal", "packed"])
@pytest.mark.parametrize("changes", [{}, {"query_key_norm": True}, {"num_key_value_heads": 1}, {"attention_dropout": 0.1}])
def test_kernels_and_torch_agree_in_value_and_gradient(changes, layout):
    """bf16 rounds each of some ten steps to 8 bits: both ways lie within 3 % (norm of the difference) of float32."""
    _, module = small_attention(torch.bfloat16, **changes)
    x, cos, sin = sample(2, 33, torch.bfloat16)
    starts = starts_of(layout, 2, 33, 0, random.Random(2))

    def run(module: Attention, x: Tensor) -> list[Tensor]:
        x = x.clone().requires_grad_()
        module.zero_grad()
        out = module(x, Places(cos, sin, first_visible=starts))
        out.backward(torch.ones_like(out))
        gradients = [parameter.grad for parameter in module.parameters()]
        return [tensor.float() for tensor in (out.detach(), x.grad, *gradients) if tensor is not None]

    fast = run(module, x)
    with kernels.switched_off():
        slow = run(module, x)
        exact = run(module.float(), x.float())
    for ours, plain, true in zip(fast, slow, exact, strict=True):
        assert float((ours - true).norm() / true.norm()) < 0.03
        assert float((plain - true).norm() / true.norm()) < 0.03
