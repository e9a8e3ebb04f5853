"""First weights follow from the seed and each parameter's name: not from order, depth, dtype or anything drawn before."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.nn.initialization import initialize


def fresh(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> dict[str, torch.Tensor]:
    settings: dict[str, Any] = {
        "vocab_size": 200, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "intermediate_size": 80, "max_position_embeddings": 64, "attention_output_bias": True, "down_bias": True, "norm": "layer",
    }  # fmt: skip
    decoder = Decoder(DecoderConfig(**{**settings, **changes})).to(dtype)
    torch.rand(seed + 3)  # numbers drawn elsewhere
    initialize(decoder, seed)
    return decoder.state_dict()


def test_the_seed_decides_and_nothing_else():
    first, again, other = fresh(5), fresh(5), fresh(6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].ndim == 2]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)
    assert len({float(first[name].flatten()[0]) for name in drawn}) == len(drawn), "each parameter has its own numbers"


def test_a_parameter_keeps_its_numbers_in_another_model_of_its_width():
    """Depth rescales the two projections into the residual stream and touches nothing else."""
    shallow, deep = fresh(num_hidden_layers=1), fresh(num_hidden_layers=4)
    for name, values in shallow.items():
        scaled = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
        torch.testing.assert_close(deep[name] * (2.0 if scaled else 1.0), values)


def test_bf16_is_the_float32_model_rounded():
    wide, narrow = fresh(), fresh(dtype=torch.bfloat16)
    assert all(torch.equal(wide[name].bfloat16(), narrow[name]) for name in wide)


@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_sizes_are_as_stated(spread):
    for name, values in fresh(initializer_range=spread).items():
        if values.ndim == 1:
            assert set(values.tolist()) == {1.0 if "norm" in name and name.endswith("weight") else 0.0}, name
            continue
        expected = spread / math.sqrt(4) if name.endswith(("output.weight", "down.weight")) else spread
        count = values.numel()
        assert abs(float(values.mean())) < 4 * expected / math.sqrt(count), name
        assert abs(float(values.std()) / expected - 1) < 4 / math.sqrt(2 * count), name
