"""Llama's published keys <-> ``DecoderConfig``; ``shared_keys`` and ``publish_shared`` serve the families that took them over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beichen.models.published import PublishedKeys, head_width
from beichen.models.published_rope import publish_rope, read_rope
from beichen.nn.config import DecoderConfig

INERT = frozenset({"pretraining_tp"})  # splits a product into slices, with equal results


def to_decoder_config(published: Mapping[str, Any]) -> DecoderConfig:
    """Translate a ``config.json``; a key that is not understood is an error."""
    keys = PublishedKeys(published, family="llama")
    keys.inert(INERT)
    attention_bias = keys.boolean("attention_bias", default=False)
    mlp_bias = keys.boolean("mlp_bias", default=False)
    config = replace(
        shared_keys(keys, max_position_embeddings=2048),
        query_key_value_bias=attention_bias,
        attention_output_bias=attention_bias,
        gate_up_bias=mlp_bias,
        down_bias=mlp_bias,
    )
    keys.finish()
    return config


def publish(config: DecoderConfig) -> dict[str, Any]:
    """The keys of a ``LlamaForCausalLM``."""
    return publish_shared(config, architecture="LlamaForCausalLM", model_type="llama") | {
        "attention_bias": config.attention_output_bias,
        "mlp_bias": config.down_bias,
    }


def adapt(config: DecoderConfig) -> DecoderConfig:
    """Llama is the plain decoder."""
    return config


def shared_keys(keys: PublishedKeys, *, max_position_embeddings: int, head_dim: int | None = None) -> DecoderConfig:
    """What Llama, Qwen 2 and Qwen 3 state under the same names; biases and norms of heads are each family's own.

    max_position_embeddings, head_dim: what a family takes where its config is silent (None: the width over the heads).
    """
    keys.one_of("hidden_act", ("silu",), default="silu")
    hidden_size = keys.integer("hidden_size")
    num_attention_heads = keys.integer("num_attention_heads")
    length = keys.integer("max_position_embeddings", default=max_position_embeddings)
    width = keys.optional_integer("head_dim") or head_dim
    return DecoderConfig(
        vocab_size=keys.integer("vocab_size"),
        hidden_size=hidden_size,
        num_hidden_layers=keys.integer("num_hidden_layers"),
        num_attention_heads=num_attention_heads,
        num_key_value_heads=keys.optional_integer("num_key_value_heads") or num_attention_heads,
        head_dim=width or head_width(hidden_size, num_attention_heads, heads_key="num_attention_heads"),
        intermediate_size=keys.integer("intermediate_size"),
        max_position_embeddings=length,
        norm_eps=keys.number("rms_norm_eps", default=1e-6),
        rope=read_rope(keys, max_position_embeddings=length),
        tie_word_embeddings=keys.boolean("tie_word_embeddings", default=False),
        attention_dropout=keys.number("attention_dropout", default=0.0),
        initializer_range=keys.number("initializer_range", default=0.02),
    )


def publish_shared(config: DecoderConfig, *, architecture: str, model_type: str) -> dict[str, Any]:
    """The same keys, written."""
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_eps,
        **publish_rope(config.rope),
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.initializer_range,
        "use_cache": True,
    }
