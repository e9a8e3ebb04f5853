"""Llama configs of every kind: stock transformers and we agree in both directions of the files, and published configs are understood."""

from __future__ import annotations

import pytest

from beichen.models.registry import family_of, load_family
from tests.models.stock import check_both_directions, check_generation, random_model

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 0.7, "mscale_all_dim": 1.0}
CASES = [
    {},
    {"num_key_value_heads": 2, "tie_word_embeddings": True},
    {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    {"head_dim": 12, "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0}},
    {"rope_parameters": LLAMA3 | {"rope_theta": 500.0}, "rms_norm_eps": 1e-3},
    {"rope_parameters": YARN | {"rope_theta": 500.0, "truncate": False}, "num_key_value_heads": 2},
    {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 500.0}, "max_position_embeddings": 30},
]


@pytest.mark.parametrize("keys", CASES, ids=range(len(CASES)))
def test_transformers_and_we_agree_in_both_directions(tmp_path, keys):
    from transformers import LlamaConfig, LlamaForCausalLM

    check_both_directions(random_model(LlamaConfig, LlamaForCausalLM, **keys), "llama", tmp_path)


@pytest.mark.parametrize("keys", [CASES[4], CASES[5]], ids=["llama3", "yarn"])
def test_answers_equal_those_of_transformers(tmp_path, keys):
    from transformers import LlamaConfig, LlamaForCausalLM

    check_generation(random_model(LlamaConfig, LlamaForCausalLM, **keys), tmp_path)


def test_a_config_as_published_is_understood():
    """Llama-3.2-3B, every key of it."""
    published = {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "head_dim": 128, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 24,
        "num_hidden_layers": 28, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
                         "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0",
        "use_cache": True, "vocab_size": 128256,
    }  # fmt: skip
    family = load_family(family_of(published))
    assert family.to_decoder_config(published) == family.to_decoder_config(family.sizes["llama3.2-3b"])
