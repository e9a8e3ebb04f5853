"""Qwen 1: both forms of its keys, its names, and answers that go beyond the trained length through the cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import ConfigError
from beichen.inference.api import Request
from beichen.inference.generation import DecoderGenerator
from beichen.models.registry import family_of, load_family
from tests.golden.folders import GOLDEN
from tests.models.stock import equal_bits, tensors_in

PUBLISHED: dict[str, Any] = {  # Qwen-7B-Chat, every key of the file
    "architectures": ["QWenLMHeadModel"], "attn_dropout_prob": 0.0,
    "auto_map": {"AutoConfig": "configuration_qwen.QWenConfig", "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"},
    "bf16": False, "emb_dropout_prob": 0.0, "fp16": False, "fp32": False, "hidden_size": 4096, "intermediate_size": 22016,
    "initializer_range": 0.02, "kv_channels": 128, "layer_norm_epsilon": 1e-06, "max_position_embeddings": 32768, "model_type": "qwen",
    "no_bias": True, "num_attention_heads": 32, "num_hidden_layers": 32, "onnx_safe": None, "rotary_emb_base": 10000, "rotary_pct": 1.0,
    "scale_attn_weights": True, "seq_length": 8192, "tie_word_embeddings": False, "tokenizer_class": "QWenTokenizer",
    "transformers_version": "4.32.0", "use_cache": True, "use_cache_kernel": False, "use_cache_quantization": False,
    "use_dynamic_ntk": True, "use_flash_attn": "auto", "use_logn_attn": True, "vocab_size": 151936,
}  # fmt: skip
OLD_NAMES = {
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "intermediate_size": "ffn_hidden_size",
    "max_position_embeddings": "n_positions", "attn_dropout_prob": "attn_pdrop", "emb_dropout_prob": "embd_pdrop",
}  # fmt: skip
CASE = GOLDEN / "qwen1" / "ntk_logn"


def test_the_published_config_and_its_older_form_are_the_preset():
    family = load_family(family_of(PUBLISHED))
    older = {OLD_NAMES.get(key, key): value for key, value in PUBLISHED.items()}
    older |= {"n_inner": None, "padded_vocab_size": 151936, "apply_residual_connection_post_layernorm": False}
    config = family.to_decoder_config(PUBLISHED)
    assert config == family.to_decoder_config(older) == family.to_decoder_config(family.sizes["qwen-7b"])
    assert (config.intermediate_size, config.query_scaling_length, config.rope.original_length) == (11008, 8192, 8192)
    assert not config.stretch_in_training


@pytest.mark.parametrize(("key", "field"), [("use_dynamic_ntk", "rope"), ("use_logn_attn", "query_scaling_length")])
def test_each_of_the_two_switches_is_one_fact(key, field):
    family = load_family("qwen1")
    on, off = family.to_decoder_config(PUBLISHED), family.to_decoder_config(PUBLISHED | {key: False})
    assert {name for name in vars(on) if getattr(on, name) != getattr(off, name)} == {field}
    assert family.to_decoder_config(family.from_decoder_config(off)) == off


def test_biases_everywhere_have_published_names():
    family = load_family("qwen1")
    config = family.to_decoder_config(PUBLISHED | {"no_bias": False})
    assert config.attention_output_bias and config.gate_up_bias and config.down_bias
    assert family.to_decoder_config(family.from_decoder_config(config)) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rotary_pct": 0.5}, "rotary_pct=0.5"),
        ({"scale_attn_weights": False}, "scale_attn_weights=False"),
        ({"emb_dropout_prob": 0.1}, "emb_dropout_prob=0.1"),
        ({"intermediate_size": 22017}, "intermediate_size=22017 is odd"),
        ({"hidden_size": 4096, "n_embd": 2048}, "disagree"),
        ({"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm=True"),
        ({"visual": {"layers": 48}}, "'visual'"),  # Qwen-VL
    ],
)
def test_what_changes_the_network_is_refused_by_name(keys, message):
    with pytest.raises(ConfigError, match=message):
        load_family("qwen1").to_decoder_config(PUBLISHED | keys)


def test_saved_again_it_is_bit_for_bit_the_same(tmp_path):
    loaded = load_checkpoint(CASE)
    save_checkpoint(tmp_path / "again", loaded.decoder, family="qwen1", published=loaded.published, source=CASE)
    theirs = {name: tensor for name, tensor in tensors_in(CASE).items() if "." in name and name.startswith(("transformer.", "lm_head."))}
    assert equal_bits(theirs, tensors_in(tmp_path / "again"))


@torch.no_grad()
def test_answers_beyond_the_trained_length_equal_recomputation():
    """Rows with different steps of the rope base in one call, padded, prompts read in pieces: as each row alone without a cache.

    The rule of a request is that of the largest length it may reach, in every step.
    """
    decoder = load_checkpoint(CASE, dtype=torch.float32).decoder
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(0, 192, (length,), generator=generator).tolist() for length in (5, 20, 31, 40, 62, 66)]
    answers = DecoderGenerator(decoder, None, max_rows=4, step_tokens=50).generate(
        [Request(prompt_ids=one, max_new_tokens=8) for one in prompts]
    )
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        for _ in range(8):
            hidden = decoder(ids, rope_length=len(prompt) + 8)
            ids = torch.cat((ids, decoder.logits(hidden[:, -1]).argmax(-1)[None]), dim=1)
        assert list(answer.ids) == ids[0, len(prompt) :].tolist()
