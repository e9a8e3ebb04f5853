"""NDL's keys: which layers are mixtures, what null means, and what the family cannot say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from beichen.errors import ConfigError
from beichen.models.registry import family_of, load_family
from beichen.nn.decoder import Decoder
from beichen.nn.rope import default_frequencies, rope_rule

FAMILY = load_family("ndl")
DENSE: dict[str, Any] = dict(FAMILY.sizes["ndl-0.8b"]) | {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "vocab_size": 60,
}
MIXTURE: dict[str, Any] = dict(FAMILY.sizes["ndl-moe-1.3b"]) | {
    key: DENSE[key] for key in ("hidden_size", "num_attention_heads", "vocab_size")
}


def test_shared_experts_are_one_of_their_joint_width_and_the_first_layer_is_dense():
    config = FAMILY.to_decoder_config(MIXTURE)
    assert config.experts is not None and config.experts.shared_intermediate_size == 2048
    assert [config.experts_of(layer) is None for layer in range(12)] == [True] + [False] * 11
    assert (config.experts.balance_form, config.experts.balance_factor, config.experts.normalize_top_k) == ("sequence", 0.001, False)


@pytest.mark.parametrize(
    ("keys", "layers"),
    [
        ({"moe_layer_freq": 2}, [2, 4, 6, 8, 10]),
        ({"moe_layer_freq": 3, "first_k_dense_replace": 0}, [0, 3, 6, 9]),
        ({"first_k_dense_replace": 11}, [11]),
        ({"first_k_dense_replace": 12}, []),
    ],
)
def test_which_layers_are_mixtures(keys, layers):
    config = FAMILY.to_decoder_config(MIXTURE | keys)
    assert [layer for layer in range(12) if config.experts_of(layer) is not None] == layers


def test_null_experts_are_none_and_null_shared_experts_too():
    assert FAMILY.to_decoder_config(MIXTURE | {"n_routed_experts": None}).experts is None
    experts = FAMILY.to_decoder_config(MIXTURE | {"n_shared_experts": None}).experts
    assert experts is not None and experts.shared_intermediate_size == 0


def test_a_single_choice_is_never_renormalised():
    for choices, normed in ((1, False), (2, True)):
        experts = FAMILY.to_decoder_config(MIXTURE | {"norm_topk_prob": True, "num_experts_per_tok": choices}).experts
        assert experts is not None and experts.normalize_top_k is normed


def test_keys_of_experts_in_a_dense_config_are_not_understood():
    with pytest.raises(ConfigError, match="does not understand 'n_routed_experts'=15"):
        FAMILY.to_decoder_config(DENSE | {"n_routed_experts": 15})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling="),
        ({"rope_scaling": "ntk"}, "rope_scaling='ntk'"),
        ({"scoring_func": "cosine"}, "scoring_func='cosine'"),
        ({"num_experts_per_tok": 16}, "num_experts_per_token=16 of only num_experts=15"),
    ],
)
def test_what_is_not_supported_is_named(keys, message):
    with pytest.raises(ConfigError, match=message):
        FAMILY.to_decoder_config(MIXTURE | keys)


@pytest.mark.parametrize("keys", [MIXTURE, DENSE, MIXTURE | {"seq_aux": False, "n_shared_experts": 1, "rope_scaling": "NTK"}])
def test_what_was_read_is_published_again(keys):
    config = FAMILY.to_decoder_config(keys)
    published = FAMILY.from_decoder_config(config)
    assert family_of(published) == "ndl" and FAMILY.to_decoder_config(published) == config
    assert {key: published[key] for key in keys} == keys


def test_ntk_stretches_the_base_with_the_length_beyond_the_trained_one():
    rope = FAMILY.to_decoder_config(DENSE | {"rope_scaling": "NTK"}).rope
    assert torch.equal(rope_rule(rope, 8, 512).inverse_frequencies, default_frequencies(10000.0, 8))
    torch.testing.assert_close(rope_rule(rope, 8, 1024).inverse_frequencies, default_frequencies(10000.0 * 2 ** (8 / 6), 8))


def test_every_parameter_has_a_published_name_and_experts_have_one_each():
    with torch.device("meta"):
        decoder = Decoder(FAMILY.to_decoder_config(MIXTURE | {"n_routed_experts": 3, "num_experts_per_tok": 2, "num_hidden_layers": 2}))
    views = FAMILY.names.views(decoder.state_dict(), decoder.config)
    assert {name for name in views if ".mlp." in name and "layers.1." in name} == {
        f"model.layers.1.mlp.{name}.weight"
        for name in ("gate", *(f"{place}.{part}" for place in ("experts.0", "experts.1", "experts.2", "shared_experts")
                               for part in ("ffn1_proj", "ffn2_proj", "o_proj")))
    }  # fmt: skip
    assert views["model.layers.1.mlp.experts.2.o_proj.weight"].shape == (32, 1024)
    assert views["model.layers.1.mlp.experts.2.ffn1_proj.weight"].shape == (1024, 32)
