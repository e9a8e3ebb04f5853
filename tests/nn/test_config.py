"""A decoder's config refuses what no decoder can be, naming the key, and counts its widths."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from beichen.errors import ConfigError
from beichen.nn.config import DecoderConfig, ExpertsConfig, RopeConfig
from beichen.nn.decoder import Decoder

SIZES: dict[str, Any] = {
    "vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4,
    "intermediate_size": 10, "max_position_embeddings": 16,
}  # fmt: skip


def test_every_size_must_be_positive():
    required = {field.name for field in fields(DecoderConfig)} & SIZES.keys()
    assert required == SIZES.keys()
    for key in SIZES:
        for value in (0, -1):
            with pytest.raises(ConfigError, match=f"{key}={value}"):
                DecoderConfig(**{**SIZES, key: value})


def test_heads_that_do_not_divide_are_refused_with_a_remedy():
    with pytest.raises(ConfigError, match=r"num_attention_heads=6 is not a multiple of num_key_value_heads=4") as fault:
        DecoderConfig(**{**SIZES, "num_key_value_heads": 4})
    assert "remedy" in str(fault.value)
    with pytest.raises(ConfigError, match="head_dim=5 is odd"):
        DecoderConfig(**{**SIZES, "head_dim": 5})


def test_it_is_frozen():
    config = DecoderConfig(**SIZES)
    with pytest.raises(FrozenInstanceError):
        config.hidden_size = 3  # type: ignore[misc]  # that mypy refuses it too is right


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True},
        {"query_key_value_bias": True, "gate_up_bias": True, "down_bias": True},
        {"norm": "layer"},
        {"query_key_norm": True, "embedding_norm": True},
    ],
)
def test_the_parameter_count_follows(changes):
    config = DecoderConfig(**{**SIZES, **changes})
    hidden, inner = config.hidden_size, config.intermediate_size
    fused = config.query_size + 2 * config.key_value_size
    assert (config.query_size, config.key_value_size) == (24, 8)
    norm = hidden * (2 if config.norm == "layer" else 1)
    layer = hidden * fused + config.query_size * hidden + 3 * hidden * inner + 2 * norm
    layer += fused * config.query_key_value_bias + 2 * inner * config.gate_up_bias + hidden * config.down_bias
    layer += 2 * config.head_dim * config.query_key_norm
    ends = config.vocab_size * hidden * (1 if config.tie_word_embeddings else 2) + norm * (2 if config.embedding_norm else 1)
    assert sum(parameter.numel() for parameter in Decoder(config).parameters()) == 2 * layer + ends


def test_which_layers_are_mixtures():
    dense = DecoderConfig(**SIZES)
    assert all(dense.experts_of(layer) is None for layer in range(8))
    experts = ExpertsConfig(num_experts=4, num_experts_per_token=2, intermediate_size=8, first_dense_layers=2, layer_frequency=2)
    assert [layer for layer in range(8) if replace(dense, experts=experts).experts_of(layer) is not None] == [2, 4, 6]


@pytest.mark.parametrize(
    "change",
    [
        {"num_experts": 0},
        {"num_experts_per_token": 5},
        {"intermediate_size": 0},
        {"layer_frequency": 0},
        {"shared_intermediate_size": -1},
        {"first_dense_layers": -1},
        {"balance_factor": -0.1},
        {"capacity_factor": 0.0},
    ],
)
def test_experts_that_cannot_be_are_refused_by_name(change):
    sizes = {"num_experts": 4, "num_experts_per_token": 2, "intermediate_size": 8}
    with pytest.raises(ConfigError, match=f"{next(iter(change))}={next(iter(change.values()))}"):
        ExpertsConfig(**{**sizes, **change})


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rule": "scaled_stepped_ntk", "trained_length": 8}, "original_length=0"),  # the steps of alpha would never end
        ({"rule": "scaled_stepped_ntk", "original_length": 8}, "trained_length=0"),
        ({"rule": "llama3", "factor": 8.0}, "original_length=0"),
        ({"rule": "llama3", "original_length": 8, "low_frequency_factor": 4.0}, "high_frequency_factor=4.0 must be above"),
        ({"rule": "linear", "factor": 0.0}, "factor=0.0"),
        ({"rule": "ntk", "factor": -2.0}, "factor=-2.0"),
        ({"rule": "dynamic_ntk"}, "original_length=0"),
        ({"rule": "stepped_ntk"}, "original_length=0"),
        ({"rule": "stepped_base"}, "original_length=0"),
        ({"rule": "yarn", "factor": 4.0}, "original_length=0"),
        ({"rule": "yarn", "original_length": 8, "attention_scale": 0.0}, "attention_scale=0.0"),
        ({"rule": "yarn", "original_length": 8, "fast_turns": 1.0}, "fast_turns=1.0 must be above"),
        ({"rule": "yarn", "original_length": 8, "base": 1.0}, "base=1.0"),
        ({"base": -1.0}, "base=-1.0"),
    ],
)
def test_a_rope_rule_without_its_numbers_is_refused(rope, message):
    with pytest.raises(ConfigError, match=message):
        RopeConfig(**rope)


@pytest.mark.parametrize("rule", ["ntk", "dynamic_ntk", "stepped_ntk", "scaled_stepped_ntk"])
def test_a_head_too_narrow_for_the_stretched_base_is_refused(rule):
    rope = RopeConfig(rule=rule, original_length=8, trained_length=8)
    assert DecoderConfig(**SIZES, rope=rope).rope is rope
    with pytest.raises(ConfigError, match="head_dim=2"):
        DecoderConfig(**{**SIZES, "head_dim": 2}, rope=rope)


def test_a_length_whose_logarithm_is_no_divisor_is_refused():
    assert DecoderConfig(**SIZES, query_scaling_length=2).query_scaling_length == 2
    with pytest.raises(ConfigError, match="query_scaling_length=1"):
        DecoderConfig(**SIZES, query_scaling_length=1)
