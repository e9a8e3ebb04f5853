"""A family's compatibility switches: off by default, by name, and never part of what a model is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from beichen.errors import ConfigError
from beichen.models.registry import FAMILIES, family_of, load_family
from beichen.nn.config import ExpertsConfig, RopeConfig
from beichen.nn.rope import RopeTables, rope_rule

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 40,
    "max_position_embeddings": 128,
}  # fmt: skip
EXPERTS = ExpertsConfig(num_experts=4, num_experts_per_token=2, intermediate_size=8)
SWITCHES = [(name, fault) for name in sorted(FAMILIES) for fault in load_family(name).compatibility]


@pytest.mark.parametrize(("name", "fault"), SWITCHES)
def test_a_switch_changes_how_a_network_is_computed_and_not_which_one_it_is(name, fault):
    family = load_family(name)
    config = family.new_config(**SIZES, experts=EXPERTS if fault == "original_experts" else None)
    faulty = family.compatible(config, [fault])
    assert repr(faulty) != repr(config) and faulty == config
    assert family.from_decoder_config(faulty) == family.from_decoder_config(config)
    assert family.compatible(config, []) is config


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("experts", [None, EXPERTS], ids=["dense", "experts"])
def test_what_a_family_publishes_is_read_as_its_own(name, experts):
    family = load_family(name)
    config = family.new_config(**SIZES, experts=experts)
    if experts is not None and not family.has_experts:
        with pytest.raises(ConfigError, match=f"family '{name}' has no published keys for experts="):
            family.from_decoder_config(config)
        return
    published = family.from_decoder_config(config)
    assert family_of(published) == name and family.to_decoder_config(published) == config


def test_an_unknown_switch_is_named_with_the_nearest():
    family = load_family("telechat2")
    with pytest.raises(ConfigError, match=r"no compatibility 'orignal_rope'.*did you mean 'original_rope'"):
        family.compatible(family.new_config(**SIZES), ["orignal_rope"])


def test_tables_are_rounded_to_float16_before_and_after_the_scale():
    config = RopeConfig(rule="scaled_stepped_ntk", original_length=16, trained_length=16)
    positions = torch.arange(40)[None]
    exact = torch.stack(RopeTables(config, 8).rows(positions, 40))
    rounded = torch.stack(RopeTables(replace(config, rounding="float16_tables"), 8).rows(positions, 40))
    scale = float(exact[0, 0, 0, 0])  # cos 0
    assert scale > 1.05 and rounded.dtype == torch.float32
    assert torch.equal(rounded, ((exact / scale).half() * scale).float())
    assert torch.equal(rounded, rounded.half().float()) and not torch.equal(rounded, exact)


def test_frequencies_are_rounded_to_bfloat16():
    positions = torch.arange(1, 2)[None]
    cos, sin = RopeTables(RopeConfig(rounding="bfloat16_frequencies"), 8).rows(positions, 2)
    frequencies = torch.atan2(sin, cos)[0, 0]
    assert torch.equal(frequencies.bfloat16(), torch.tensor([1.0, 0.1, 0.01, 0.001]).bfloat16())
    assert (frequencies - frequencies.bfloat16().float()).abs().max() < 1e-7
    growing = RopeConfig(rule="dynamic_ntk", original_length=16, rounding="bfloat16_frequencies")
    exact = [rope_rule(replace(growing, rounding="none"), 8, length).inverse_frequencies for length in (16, 32)]
    assert torch.equal(rope_rule(growing, 8, 16).inverse_frequencies, exact[0].bfloat16().float())
    assert torch.equal(rope_rule(growing, 8, 32).inverse_frequencies, exact[1])
