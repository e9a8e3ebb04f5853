"""The table of names: its views cover every parameter exactly once, and reading undoes writing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from beichen.errors import ConfigError
from beichen.models.naming import NameTable, Row
from beichen.models.registry import FAMILIES, load_family
from beichen.nn.decoder import Decoder


def random_config(family, seed):
    """Any shape that the family can express."""
    dice = random.Random(seed)
    heads_of_one = dice.choice([1, 2, 3])
    key_value_heads, head_dim = dice.choice([1, 2, 3]), dice.choice([4, 6, 8])
    config = family.new_config(
        vocab_size=dice.randint(3, 20), hidden_size=heads_of_one * key_value_heads * head_dim, num_hidden_layers=dice.randint(1, 3),
        num_attention_heads=heads_of_one * key_value_heads, num_key_value_heads=key_value_heads,
        intermediate_size=dice.randint(1, 9), max_position_embeddings=16, tie_word_embeddings=dice.random() < 0.5,
    )  # fmt: skip
    if family.name == "llama" and dice.random() < 0.5:
        biases = ("query_key_value_bias", "attention_output_bias", "gate_up_bias", "down_bias")
        config = replace(config, **dict.fromkeys(biases, True))
    return config


def numbered(config):
    """A state whose every element is another number."""
    state = Decoder(config).state_dict()
    start = 0
    for name, tensor in state.items():
        state[name] = torch.arange(start, start + tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
        start += tensor.numel()
    return state, start


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("seed", range(8))
def test_views_cover_every_element_once_and_reading_undoes_writing(name, seed):
    family = load_family(name)
    config = random_config(family, seed)
    state, count = numbered(config)
    published = {key: view.tensor() for key, view in family.names.views(state, config).items()}
    assert sorted(torch.cat([tensor.flatten() for tensor in published.values()]).tolist()) == list(range(count))
    again = {key: torch.full_like(tensor, -1) for key, tensor in state.items()}
    for key, view in family.names.views(again, config).items():
        assert tuple(published[key].shape) == view.shape
        view.fill(published[key])
    assert all(torch.equal(state[key], again[key]) for key in state)


def test_telechat2_keys_and_values_are_interleaved_head_by_head():
    family = load_family("telechat2")
    config = family.new_config(
        vocab_size=5, hidden_size=24, num_hidden_layers=1, num_attention_heads=6, num_key_value_heads=3, intermediate_size=4,
        max_position_embeddings=8,
    )  # fmt: skip
    state, _ = numbered(config)
    ours = state["layers.0.attention.qkv.weight"]
    published = family.names.views(state, config)["transformer.h.0.self_attention.key_value.weight"].tensor()
    for head in range(3):
        key = ours[24 + 4 * head : 28 + 4 * head]
        value = ours[36 + 4 * head : 40 + 4 * head]
        assert torch.equal(published[8 * head : 8 * head + 8], torch.cat((key, value)))


def test_the_optional_prefix_can_be_left_out():
    family = load_family("telechat2")
    config = random_config(family, 0)
    names = set(family.names.views(Decoder(config).state_dict(), config, bare=True))
    assert "h.0.input_layernorm.weight" in names and not any(name.startswith("transformer.") for name in names)
    assert family.names.omits_prefix(names) and not family.names.omits_prefix(["transformer.ln_f.weight", "lm_head.weight"])


def test_a_parameter_without_a_published_name_is_an_error():
    with pytest.raises(ConfigError, match="extra"):
        NameTable(rows=(Row("a", ("b",)),)).views({"extra": torch.zeros(1)}, random_config(load_family("llama"), 0))
