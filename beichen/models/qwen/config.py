"""Published keys of Qwen 1.5 to 3 <-> ``DecoderConfig``.

Qwen 1.5, 2 and 2.5 are one architecture (``qwen2``): Llama with biases on queries, keys and values. Qwen 3 (``qwen3``) has none
unless asked for, norms each head's query and key, and states the width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beichen.errors import ConfigError
from beichen.models.llama.config import publish_shared, shared_keys
from beichen.models.published import PublishedKeys
from beichen.nn.config import DecoderConfig

INERT = frozenset({"pretraining_tp"})  # as in Llama
HEAD_DIM = 128  # of Qwen 3, where its config is silent
MAX_POSITION_EMBEDDINGS = 32768


def to_decoder_config(published: Mapping[str, Any]) -> DecoderConfig:
    """Translate a ``config.json``; a key that is not understood is an error."""
    keys = PublishedKeys(published, family="qwen")
    keys.inert(INERT)
    third = "Qwen3ForCausalLM" in (published.get("architectures") or ()) or published.get("model_type") == "qwen3"
    plain = shared_keys(keys, max_position_embeddings=MAX_POSITION_EMBEDDINGS, head_dim=HEAD_DIM if third else None)
    if third:
        bias = keys.boolean("attention_bias", default=False)
        config = replace(plain, query_key_norm=True, query_key_value_bias=bias, attention_output_bias=bias)
    else:
        keys.fixed("use_mrope", False, default=False)  # positions in three parts, for images and video
        config = replace(plain, query_key_value_bias=True)
    _refuse_windows(keys, config)
    keys.finish()
    return config


def publish(config: DecoderConfig) -> dict[str, Any]:
    """The keys of a ``Qwen3ForCausalLM`` where heads are normed, else of a ``Qwen2ForCausalLM``."""
    window = {"use_sliding_window": False, "sliding_window": None, "max_window_layers": config.num_hidden_layers}
    if config.query_key_norm:
        shared = publish_shared(config, architecture="Qwen3ForCausalLM", model_type="qwen3")
        return shared | window | {"attention_bias": config.attention_output_bias}
    return publish_shared(config, architecture="Qwen2ForCausalLM", model_type="qwen2") | window


def adapt(config: DecoderConfig) -> DecoderConfig:
    """The newest: heads normed, no biases."""
    return replace(config, query_key_norm=True)


def _refuse_windows(keys: PublishedKeys, config: DecoderConfig) -> None:
    """Layers from ``max_window_layers`` on may see a window of tokens only; published checkpoints switch that off."""
    on = keys.boolean("use_sliding_window", default=False)
    window = keys.optional_integer("sliding_window")
    first = keys.integer("max_window_layers", default=28)
    kinds = keys.words("layer_types")
    windowed = [layer for layer, kind in enumerate(kinds) if kind != "full_attention"]
    if kinds and len(kinds) != config.num_hidden_layers:
        raise ConfigError(f"config.json: layer_types names {len(kinds)} layers, num_hidden_layers is {config.num_hidden_layers}")
    if not kinds and on and window is not None:
        windowed = list(range(first, config.num_hidden_layers))
    if windowed:
        raise ConfigError(
            f"config.json: {len(windowed)} of {config.num_hidden_layers} layers see a window of {window} tokens only "
            f"(use_sliding_window={on}, max_window_layers={first}), which is not supported",
            remedy="no published Qwen needs it; if yours was trained without windows, set use_sliding_window to false",
        )
