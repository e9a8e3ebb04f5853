"""Qwen 1's published keys, of its first and its later form <-> ``DecoderConfig``.

``seq_length`` is the trained length. Beyond it the original stretches the rope base in steps (``use_dynamic_ntk``) and lets queries
grow with the logarithm of their place (``use_logn_attn``), outside training; one step holds for a request, one for each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beichen.errors import ConfigError
from beichen.models.published import PublishedKeys
from beichen.nn.config import DecoderConfig, RopeConfig

INERT = frozenset({
    "max_position_embeddings", "n_positions",  # never read: ``seq_length`` is
    "bf16", "fp16", "fp32", "softmax_in_fp32", "onnx_safe", "use_flash_attn", "use_cache_kernel",  # number format and kernels
    "use_cache_quantization",  # keeps the cache in 8 bits to save memory; ours is exact
    "n_inner", "padded_vocab_size",  # never read
})  # fmt: skip
SWITCHES: dict[str, Any] = {  # the one value of each that a published checkpoint has and that this decoder computes
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "apply_residual_connection_post_layernorm": False,
}


def to_decoder_config(published: Mapping[str, Any]) -> DecoderConfig:
    """Translate a ``config.json``; a key that is not understood is an error."""
    keys = PublishedKeys(published, family="qwen1")
    keys.inert(INERT)
    for name, value in SWITCHES.items():
        keys.fixed(name, value, default=value)
    length = keys.integer("seq_length")
    base = keys.number("rotary_emb_base", default=10000.0)
    stretched = keys.boolean("use_dynamic_ntk", default=True)
    num_attention_heads = keys.integer("num_attention_heads", "n_head")
    both = keys.integer("intermediate_size", "ffn_hidden_size")  # gate and up together
    if both % 2:
        raise ConfigError(f"config.json: intermediate_size={both} is odd: half of it is the width of the gate, half that of w1")
    other_bias = not keys.boolean("no_bias", default=True)
    config = DecoderConfig(
        vocab_size=keys.integer("vocab_size"),
        hidden_size=keys.integer("hidden_size", "n_embd"),
        num_hidden_layers=keys.integer("num_hidden_layers", "n_layer"),
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_attention_heads,
        head_dim=keys.integer("kv_channels", default=128),
        intermediate_size=both // 2,
        max_position_embeddings=length,
        norm_eps=keys.number("layer_norm_epsilon", default=1e-6),
        rope=RopeConfig(base=base, rule="stepped_ntk", original_length=length) if stretched else RopeConfig(base=base),
        query_scaling_length=length if keys.boolean("use_logn_attn", default=True) else None,
        stretch_in_training=False,
        query_key_value_bias=True,
        attention_output_bias=other_bias,
        gate_up_bias=other_bias,
        down_bias=other_bias,
        tie_word_embeddings=keys.boolean("tie_word_embeddings", default=False),
        attention_dropout=keys.number("attn_dropout_prob", "attn_pdrop", default=0.0),
        initializer_range=keys.number("initializer_range", default=0.02),
    )
    for name in ("emb_dropout_prob", "embd_pdrop"):  # on the embedding alone
        keys.fixed(name, 0.0, default=0.0)
    keys.finish()
    return config


def publish(config: DecoderConfig) -> dict[str, Any]:
    """The keys of a ``QWenLMHeadModel`` in its later form."""
    return SWITCHES | {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "kv_channels": config.head_dim,
        "intermediate_size": 2 * config.intermediate_size,
        "seq_length": config.max_position_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
        "layer_norm_epsilon": config.norm_eps,
        "rotary_emb_base": config.rope.base,
        "use_dynamic_ntk": config.rope.rule == "stepped_ntk",
        "use_logn_attn": config.query_scaling_length is not None,
        "no_bias": not config.down_bias,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attn_dropout_prob": config.attention_dropout,
        "emb_dropout_prob": 0.0,
        "initializer_range": config.initializer_range,
        "use_flash_attn": "auto",
        "use_cache": True,
    }


def adapt(config: DecoderConfig) -> DecoderConfig:
    """Biases on queries, keys and values; longer inputs than the trained length as published."""
    length = config.max_position_embeddings
    rope = RopeConfig(rule="stepped_ntk", original_length=length)
    return replace(config, rope=rope, query_scaling_length=length, stretch_in_training=False, query_key_value_bias=True)
