"""Rope in the published form: both versions of it mean the same, stock transformers computes the same, nothing is ignored."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch

from beichen.errors import ConfigError
from beichen.models.published import PublishedKeys
from beichen.models.published_rope import publish_rope, read_rope
from beichen.nn.config import RopeConfig
from beichen.nn.rope import rope_rule

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
PUBLISHED_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}  # as Qwen2.5 states it


def read(length: int = 256, **published: Any) -> RopeConfig:
    keys = PublishedKeys(published, family="any")
    rope = read_rope(keys, max_position_embeddings=length)
    keys.finish()
    return rope


def any_table(rng: random.Random) -> dict[str, Any]:
    """Any rule with any numbers, each optional key now there, now absent, now null."""
    rule = rng.choice(["default", "linear", "dynamic", "llama3", "yarn", "yarn", "yarn"])
    table: dict[str, Any] = {"rope_type": rule}
    if rule != "default":
        table["factor"] = rng.uniform(1.0, 9.0)
    if rule == "llama3":
        table |= {"low_freq_factor": rng.uniform(0.5, 2.0), "high_freq_factor": rng.uniform(3.0, 6.0)}
    if rule in ("llama3", "yarn"):
        table["original_max_position_embeddings"] = rng.choice([16, 64, 100])
    if rule == "yarn":
        optional = {
            "attention_factor": rng.uniform(0.5, 2.0), "beta_fast": rng.choice([16, 32.0, 48]), "beta_slow": rng.choice([1, 2.5]),
            "mscale": rng.choice([0.707, 1.0, 1.3]), "mscale_all_dim": rng.choice([0.5, 1.0]), "truncate": rng.random() < 0.5,
        }  # fmt: skip
        table |= {key: value for key, value in optional.items() if rng.random() < 0.5}
        table |= {key: None for key in ("attention_factor", "mscale") if key not in table and rng.random() < 0.3}
    return table


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_function_of_transformers(seed):
    """Frequencies and scale of every rule, with every optional number of yarn."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rng = random.Random(seed)
    table, width = any_table(rng), rng.choice([8, 16, 64, 128])
    table["rope_theta"] = rng.choice([500.0, 10000.0, 1e6])
    config = LlamaConfig(hidden_size=64, num_attention_heads=2, head_dim=width, max_position_embeddings=256, rope_parameters=dict(table))
    rope, length = read(rope_parameters=table), rng.choice([10, 256, 300, 2000])
    rule = rope_rule(rope, width, length)
    if table["rope_type"] == "default":
        theirs, scale = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    else:
        theirs, scale = ROPE_INIT_FUNCTIONS[table["rope_type"]](config, torch.device("cpu"), seq_len=length)
    torch.testing.assert_close(rule.inverse_frequencies, theirs, rtol=2e-6, atol=0)
    assert rule.attention_scale == pytest.approx(scale, rel=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_both_forms_mean_the_same_and_publishing_keeps_it(seed):
    rng = random.Random(seed)
    table = any_table(rng)
    new = read(rope_parameters=table | {"rope_theta": 5e5})
    assert new == read(rope_theta=5e5, rope_scaling=table) == read(rope_theta=5e5, rope_parameters=table)
    old_words = {("type" if key == "rope_type" else key): value for key, value in table.items()}
    assert new == read(rope_theta=5e5, rope_scaling=old_words)
    assert new == read(rope_theta=5e5, rope_scaling=table, rope_parameters=table)  # twice the same is no contradiction
    assert new == read(**publish_rope(new))


def test_what_is_not_stated_follows_from_the_rest():
    assert read() == RopeConfig(base=10000.0) == read(rope_scaling=None, rope_theta=None)
    yarn = read(131072, rope_theta=1e6, rope_scaling=PUBLISHED_YARN)
    assert (yarn.rule, yarn.factor, yarn.original_length, yarn.base) == ("yarn", 4.0, 32768, 1e6)
    assert yarn.attention_scale == pytest.approx(0.1 * math.log(4.0) + 1.0) and (yarn.slow_turns, yarn.fast_turns) == (1.0, 32.0)
    assert read(1000, rope_scaling={"rope_type": "yarn", "factor": 4.0}).original_length == 1000
    ratio = read(1000, rope_scaling={"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 250})
    assert ratio.factor == 4.0
    assert read(1000, rope_scaling={"rope_type": "dynamic", "factor": 2.0}).original_length == 1000


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "lama3"}, "did you mean 'llama3'"),
        ({"rope_type": "longrope", "factor": 2.0}, "'longrope'"),
        ({"rope_type": "linear"}, "lacks 'factor'"),
        ({"rope_type": "llama3", "factor": 8.0}, "lacks 'low_freq_factor'"),
        ({"rope_type": "linear", "factor": -1.0}, "factor=-1.0"),
        ({"rope_type": "linear", "factor": True}, "factor=True"),
        ({"rope_type": "linear", "factor": 2.0, "beta": 1}, "'beta'"),
        ({"rope_type": "linear", "type": "llama3", "factor": 2.0}, "twice"),
        ({"rope_type": "yarn", "factor": 2.0, "truncate": 1}, "truncate=1"),
        ({"rope_type": "yarn", "factor": 2.0, "beta_fast": 1, "beta_slow": 4}, "fast_turns"),
        ({"rope_type": "yarn", "factor": 2.0, "short_factor": [1.0]}, "'short_factor'"),
        ({"rope_type": "default", "rope_theta": 500.0}, "rope_theta"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (LLAMA3 | {"high_freq_factor": 1.0}, "high_frequency_factor"),
        ("NTK", "not an object"),
    ],
)
def test_what_is_not_understood_is_an_error_that_names_it(scaling, message):
    with pytest.raises(ConfigError, match=message):
        read(rope_theta=10000.0, rope_scaling=scaling)


def test_two_forms_that_disagree_are_an_error():
    with pytest.raises(ConfigError, match="disagree"):
        read(rope_theta=500.0, rope_scaling=LLAMA3, rope_parameters=LLAMA3 | {"factor": 4.0})


def test_a_rule_that_the_form_lacks_is_left_out():
    assert publish_rope(RopeConfig(rule="stepped_ntk", original_length=8))["rope_scaling"] is None
