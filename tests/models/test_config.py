"""Published keys are translated once; what is not understood, contradictory or impossible is an error that names the key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from beichen.errors import ConfigError
from beichen.models.registry import FAMILIES, load_family

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 40, "max_position_embeddings": 128,
}  # fmt: skip
WITHOUT_GROUPS = ("telechat", "telechat52b", "qwen1")  # whose keys cannot say that heads share keys and values
GROUPED = [name for name in sorted(FAMILIES) if name not in WITHOUT_GROUPS]
EVERY_FAMILY = pytest.mark.parametrize("family", [load_family(name) for name in GROUPED], ids=GROUPED)
HEADS = dict.fromkeys(GROUPED, "num_attention_heads") | {"telechat2": "n_head"}


def published(family, **changes):
    return family.from_decoder_config(family.new_config(**SIZES)) | changes


@EVERY_FAMILY
def test_a_new_config_survives_publishing(family):
    config = family.new_config(**SIZES)
    assert family.to_decoder_config(family.from_decoder_config(config)) == config
    assert config.num_key_value_heads == 2 and config.head_dim == 8


@EVERY_FAMILY
def test_a_key_that_is_not_understood_is_named_with_the_nearest(family):
    with pytest.raises(ConfigError, match=r"'hiden_size'=3.*did you mean 'hidden_size'"):
        family.to_decoder_config(published(family, hiden_size=3))


@EVERY_FAMILY
def test_null_key_value_heads_mean_one_for_each_query_head(family):
    assert family.to_decoder_config(published(family, num_key_value_heads=None)).num_key_value_heads == 6
    without = published(family)
    del without["num_key_value_heads"]
    assert family.to_decoder_config(without).num_key_value_heads == 6


@pytest.mark.parametrize("name", [name for name in GROUPED if name != "qwen"])  # Qwen 3 has a width of its own
def test_a_width_that_the_heads_do_not_divide_is_an_error(name):
    family = load_family(name)
    keys = published(family, **{HEADS[name]: 5, "num_key_value_heads": None})
    keys.pop("head_dim", None)
    with pytest.raises(ConfigError, match=rf"hidden_size=48 does not divide by {HEADS[name]}=5"):
        family.to_decoder_config(keys)


@EVERY_FAMILY
def test_groups_that_do_not_divide_the_heads_are_an_error(family):
    with pytest.raises(ConfigError, match="num_key_value_heads=4"):
        family.to_decoder_config(published(family, num_key_value_heads=4))


@EVERY_FAMILY
@pytest.mark.parametrize("value", ["48", 48.0, True, None])
def test_a_size_of_another_type_is_an_error(family, value):
    with pytest.raises(ConfigError, match="hidden_size"):
        family.to_decoder_config(published(family, hidden_size=value))


@EVERY_FAMILY
def test_a_missing_size_is_an_error(family):
    keys = published(family)
    del keys["vocab_size"]
    with pytest.raises(ConfigError, match="lacks 'vocab_size'"):
        family.to_decoder_config(keys)


@EVERY_FAMILY
@pytest.mark.parametrize("change", [{"logit_scale": 0.5}, {"norm": "layer"}, {"query_scaling_length": 64}])
def test_a_decoder_that_the_family_cannot_express_is_refused(family, change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        family.from_decoder_config(replace(family.new_config(**SIZES), **change))


def test_telechat2_keys_that_promise_nothing_are_accepted():
    family = load_family("telechat2")
    inert = {"logn": True, "offset_alibi": 100, "semi_causal": False, "n_inner": None, "skip_bias_add": False, "flash_attn": True}
    assert family.to_decoder_config(published(family, **inert)) == family.new_config(**SIZES)


def test_telechat2_two_names_of_one_fact_must_agree():
    family = load_family("telechat2")
    assert family.to_decoder_config(published(family, num_hidden_layers=2)).num_hidden_layers == 2
    with pytest.raises(ConfigError, match="disagree"):
        family.to_decoder_config(published(family, num_hidden_layers=3))


def test_telechat2_rope_takes_both_lengths():
    config = load_family("telechat2").to_decoder_config(published(load_family("telechat2"), training_seqlen=64, base_seqlen=16))
    assert (config.rope.original_length, config.rope.trained_length, config.max_position_embeddings) == (16, 64, 64)


@pytest.mark.parametrize("change", [{"query_key_norm": True}, {"query_key_value_bias": True}, {"gate_up_bias": True}])
def test_llama_has_biases_in_pairs_and_no_norms_of_heads(change):
    family = load_family("llama")
    with pytest.raises(ConfigError, match=next(iter(change))):
        family.from_decoder_config(replace(family.new_config(**SIZES), **change))


def test_llama_head_width_may_differ_from_the_quotient():
    config = load_family("llama").to_decoder_config(published(load_family("llama"), head_dim=16))
    assert config.query_size == 96 and config.hidden_size == 48


def test_llama_activation_other_than_silu_is_an_error():
    with pytest.raises(ConfigError, match="hidden_act='gelu'"):
        load_family("llama").to_decoder_config(published(load_family("llama"), hidden_act="gelu"))


@pytest.mark.parametrize(("tied", "base_length"), [(True, 4096), (False, 8192)])
def test_telechat_base_length_follows_from_the_tied_head(tied, base_length):
    family = load_family("telechat")
    config = family.new_config(**SIZES | {"num_key_value_heads": None}, tie_word_embeddings=tied)
    assert config.rope.original_length == base_length
    assert family.to_decoder_config(family.from_decoder_config(config)) == config
    with pytest.raises(ConfigError, match="num_key_value_heads=2"):
        family.from_decoder_config(family.new_config(**SIZES))


def test_telechat_head_is_tied_where_nothing_is_said():
    family = load_family("telechat")
    keys = family.from_decoder_config(family.new_config(**SIZES | {"num_key_value_heads": None}, tie_word_embeddings=True))
    del keys["tie_word_embeddings"]
    config = family.to_decoder_config(keys)
    assert config.tie_word_embeddings and config.rope.original_length == 4096
