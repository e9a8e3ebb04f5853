"""Qwen 1.5 to 3: stock transformers and we agree in both directions of the files; published configs are understood, windows refused."""

from __future__ import annotations

from typing import Any

import pytest

from beichen.errors import ConfigError
from beichen.models.registry import family_of, load_family
from tests.models.stock import check_both_directions, check_generation, random_model

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 500.0}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    ("Qwen2", {"num_key_value_heads": 4, "rope_parameters": YARN, "sliding_window": 8, "use_sliding_window": False}),
    ("Qwen2", {"num_key_value_heads": 1, "sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2}),
    ("Qwen3", {"num_key_value_heads": 2, "head_dim": 12}),
    ("Qwen3", {"num_key_value_heads": 1, "head_dim": 8, "attention_bias": True, "tie_word_embeddings": True}),
    ("Qwen3", {"num_key_value_heads": 4, "head_dim": 16, "rope_parameters": YARN}),
]
PUBLISHED: dict[str, dict[str, Any]] = {  # every key of the files, as published
    "qwen1.5-0.5b": {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
        "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 2816, "max_position_embeddings": 32768,
        "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 16, "num_hidden_layers": 24, "num_key_value_heads": 16,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.37.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
    },
    "qwen2.5-7b": {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
        "hidden_act": "silu", "hidden_size": 3584, "initializer_range": 0.02, "intermediate_size": 18944,
        "max_position_embeddings": 131072, "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 28,
        "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": True,
        "use_mrope": False, "use_sliding_window": False, "vocab_size": 152064,
    },
    "qwen3-8b": {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 12288, "max_position_embeddings": 40960, "max_window_layers": 36, "model_type": "qwen3",
        "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
    },
}  # fmt: skip


def stock(name, keys):
    import transformers

    return random_model(getattr(transformers, f"{name}Config"), getattr(transformers, f"{name}ForCausalLM"), **keys)


@pytest.mark.parametrize(("name", "keys"), CASES, ids=range(len(CASES)))
def test_transformers_and_we_agree_in_both_directions(tmp_path, name, keys):
    check_both_directions(stock(name, keys), "qwen", tmp_path)


@pytest.mark.parametrize(("name", "keys"), [CASES[0], CASES[3]], ids=["biases", "norms of heads"])
def test_answers_equal_those_of_transformers(tmp_path, name, keys):
    check_generation(stock(name, keys), tmp_path)


@pytest.mark.parametrize("size", PUBLISHED)
def test_a_config_as_published_is_understood(size):
    family = load_family(family_of(PUBLISHED[size]))
    assert family.to_decoder_config(PUBLISHED[size]) == family.to_decoder_config(family.sizes[size])


def test_the_longer_reach_that_qwen_advises_is_understood():
    """The remedy of their model cards: yarn in ``rope_scaling``, everything else as it was."""
    family = load_family("qwen")
    longer = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    rope = family.to_decoder_config(PUBLISHED["qwen2.5-7b"] | {"rope_scaling": longer}).rope
    assert (rope.rule, rope.factor, rope.original_length, rope.base) == ("yarn", 4.0, 32768, 1e6)


@pytest.mark.parametrize("size", ["qwen2.5-7b", "qwen3-8b"])
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 20}, "see a window of 4096 tokens"),
        ({"layer_types": ["full_attention", "sliding_attention"] * 14}, "14 of 28|names 28 layers"),
        ({"layer_types": ["full_attention"]}, "names 1 layers"),
        ({"use_mrope": True}, "use_mrope"),
        ({"dual_chunk_attention_config": {"chunk_size": 262144}}, "dual_chunk_attention_config"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
    ],
)
def test_what_changes_the_network_is_refused_by_name(size, keys, message):
    with pytest.raises(ConfigError, match=message):
        load_family("qwen").to_decoder_config(PUBLISHED[size] | keys)


@pytest.mark.parametrize("size", ["qwen2.5-7b", "qwen3-8b"])
def test_windows_that_no_layer_has_are_accepted(size):
    family, keys = load_family("qwen"), PUBLISHED[size]
    layers = keys["num_hidden_layers"]
    inert: list[dict[str, Any]] = [
        {"use_sliding_window": False, "sliding_window": 512},
        {"use_sliding_window": True, "sliding_window": None},
        {"use_sliding_window": True, "sliding_window": 512, "max_window_layers": layers},
        {"layer_types": ["full_attention"] * layers},
    ]
    assert all(family.to_decoder_config(keys | one) == family.to_decoder_config(keys) for one in inert)


def test_qwen2_has_no_switch_for_biases():
    with pytest.raises(ConfigError, match="'attention_bias'=False"):
        load_family("qwen").to_decoder_config(PUBLISHED["qwen2.5-7b"] | {"attention_bias": False})
