"""A step of the whole decoder in one kernel equals the decoder's own forward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from beichen.nn import kernels
from beichen.nn.cache import DenseCache
from beichen.nn.config import DecoderConfig, ExpertsConfig, RopeConfig
from beichen.nn.decoder import Decoder
from beichen.nn.stepping import Stepper

BASE: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
    "intermediate_size": 80, "max_position_embeddings": 64,
    "rope": RopeConfig(rule="scaled_stepped_ntk", original_length=16, trained_length=64),
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "telechat2": {"attention_output_bias": True, "down_bias": True},
    "grouped, tied, scaled": {"num_key_value_heads": 2, "tie_word_embeddings": True, "embedding_scale": 3.0, "logit_scale": 0.5},
    "all biases, odd widths": {
        "query_key_value_bias": True,
        "gate_up_bias": True,
        "hidden_size": 72,
        "head_dim": 18,
        "intermediate_size": 50,
    },
    "normed": {"embedding_norm": True, "residual_after_norm": True},
    "layer norm": {"norm": "layer"},
    "query and key norm": {"query_key_norm": True},
    "queries scaled": {"query_scaling_length": 8},
    "all about queries": {"query_scaling_length": 12, "query_key_norm": True, "num_key_value_heads": 2, "query_key_value_bias": True},
    "experts": {
        "experts": ExpertsConfig(num_experts=4, num_experts_per_token=4, intermediate_size=24, shared_intermediate_size=40, down_bias=True)
    },
}


def decoder_of(shape: str, dtype: torch.dtype) -> Decoder:
    decoder = Decoder(DecoderConfig(**{**BASE, **SHAPES[shape]})).to(dtype).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in decoder.named_parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.15 + ("norm" in name and not name.endswith("bias")))
    return decoder


@torch.no_grad()
def hidden_states(decoder: Decoder, *, rows: int, steps: int, padded: bool) -> torch.Tensor:
    """A prompt of 9 columns, then ``steps`` single ones; half of the rows leave after three.  -> [steps, rows or its half, hidden]"""
    generator = torch.Generator().manual_seed(2)
    padding = torch.randint(0, 6, (rows,), generator=generator) if padded else torch.zeros(rows, dtype=torch.int64)
    starts = padding.to(torch.int32) if padded else None
    cache = DenseCache(decoder.config, rows=rows, capacity=9 + steps, dtype=decoder.head_weight.dtype)
    columns = torch.arange(9)
    visible = torch.where(columns >= padding[:, None], padding[:, None], columns).int() if padded else None
    positions = (columns - padding[:, None]).clamp(min=0)
    ids = torch.randint(96, (rows, 9), generator=generator)
    decoder(ids, positions=positions, first_visible=visible, cache=cache, rope_length=40)
    step = Stepper(decoder, rope_length=40)
    found = []
    for number in range(steps):
        if number == 3:
            kept = torch.arange(0, rows, 2)
            cache.keep_rows(kept)
            padding, starts = padding[kept], starts if starts is None else starts[kept]
        ids = torch.randint(96, (rows,), generator=generator)[: len(padding)]
        found.append(step(ids, cache.length - padding, starts, cache)[: (rows + 1) // 2])
    return torch.stack(found).float()


@pytest.mark.parametrize("rows", [1, 3, 16, 70])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_equals_the_forward_in_bfloat16(shape, rows, padded):
    if not kernels.status().available:
        pytest.skip("no compiled kernels here")
    decoder = decoder_of(shape, torch.bfloat16)
    found = hidden_states(decoder, rows=rows, steps=6, padded=padded)
    with kernels.switched_off():
        plain = hidden_states(decoder, rows=rows, steps=6, padded=padded)
    exact = hidden_states(decoder.float(), rows=rows, steps=6, padded=padded)
    tolerance = (plain - exact).square().mean().sqrt() * 1.5 + 1e-3  # as near to the truth as the plain way
    assert (found - exact).square().mean().sqrt() < tolerance


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_equal_the_whole_forward_in_float32(shape):
    decoder = decoder_of(shape, torch.float32)
    ids = torch.randint(96, (2, 20), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        whole = decoder(ids, rope_length=20)
        cache = DenseCache(decoder.config, rows=2, capacity=20, dtype=torch.float32)
        decoder(ids[:, :5], cache=cache, rope_length=20)
        step = Stepper(decoder, rope_length=20)
        for column in range(5, 20):
            hidden = step(ids[:, column], torch.full((2,), column), None, cache)
            torch.testing.assert_close(hidden, whole[:, column], atol=1e-4, rtol=1e-4)


def test_a_full_cache_is_an_error():
    decoder = decoder_of("telechat2", torch.bfloat16)
    cache = DenseCache(decoder.config, rows=1, capacity=3, dtype=torch.bfloat16)
    with torch.no_grad():
        decoder(torch.tensor([[1, 2, 3]]), cache=cache)
        with pytest.raises(ValueError, match="cache of 3 columns is full"):
            Stepper(decoder, rope_length=10)(torch.tensor([1]), torch.tensor([3]), None, cache)
