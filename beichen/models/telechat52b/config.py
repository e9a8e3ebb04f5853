"""TeleChat-52B's published keys <-> ``DecoderConfig``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beichen.models.published import PublishedKeys, head_width
from beichen.nn.config import DecoderConfig, RopeConfig

INERT = frozenset({
    # they order or widen intermediate sums, with equal results up to rounding
    "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "enable_flash_attn",
    # never read, or only where a switch below is the other way
    "mup_base_width", "rotary_xpos_scale_base",
    "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
})  # fmt: skip
SWITCHES: dict[str, Any] = {  # the one value of each that a published checkpoint has and that this decoder computes
    "activation_function": "silu",
    "add_bias_linear": False,
    "embd_pdrop": 0.0,
    "relative_encoding": "rotary",
    "rotary_use_xpos": False,
    "scale_attn_weights": True,
    "use_RMSNorm": True,
    "use_mup": True,
}

ORIGINAL_LENGTH = 4096  # a constant in the original code
MUP_BASE_WIDTH = 256  # the width at which muP's multiplier of the logits is 1
MUP_SCALE_FACTOR = 32.0  # as published; a power of two, so that dividing by it loses no bit


def to_decoder_config(published: Mapping[str, Any]) -> DecoderConfig:
    """Translate a ``config.json``; a key that is not understood is an error."""
    keys = PublishedKeys(published, family="telechat52b")
    keys.inert(INERT)
    for name, value in SWITCHES.items():
        keys.fixed(name, value)
    hidden_size = keys.integer("n_embd", "hidden_size")
    num_attention_heads = keys.integer("n_head", "num_attention_heads")
    config = DecoderConfig(
        vocab_size=keys.integer("vocab_size"),
        hidden_size=hidden_size,
        num_hidden_layers=keys.integer("n_layer", "num_hidden_layers"),
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_attention_heads,
        head_dim=head_width(hidden_size, num_attention_heads, heads_key="n_head"),
        intermediate_size=keys.integer("n_inner"),
        max_position_embeddings=keys.integer("n_positions", "max_position_embeddings"),
        norm_eps=keys.number("layer_norm_epsilon", default=1e-5),
        rope=RopeConfig(rule="stepped_base", base=keys.number("rotary_theta"), original_length=ORIGINAL_LENGTH),
        tie_word_embeddings=keys.boolean("tie_word_embeddings", default=True),
        embedding_scale=keys.number("input_mult", default=1.0),
        logit_scale=keys.number("output_mult", default=1.0) / keys.positive("mup_scale_factor"),
        attention_dropout=keys.number("attn_pdrop", default=0.0),
        hidden_dropout=keys.number("resid_pdrop", default=0.0),
        initializer_range=keys.number("initializer_range", default=0.02),
    )
    keys.finish()
    return config


def publish(config: DecoderConfig) -> dict[str, Any]:
    """The keys that the original code reads. It states no ``architectures``, and neither do we."""
    return SWITCHES | {
        "model_type": "telechat",
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_inner": config.intermediate_size,
        "n_positions": config.max_position_embeddings,
        "layer_norm_epsilon": config.norm_eps,
        "rotary_theta": config.rope.base,
        "tie_word_embeddings": config.tie_word_embeddings,
        "input_mult": config.embedding_scale,
        "output_mult": config.logit_scale * MUP_SCALE_FACTOR,
        "mup_scale_factor": MUP_SCALE_FACTOR,
        "attn_pdrop": config.attention_dropout,
        "resid_pdrop": config.hidden_dropout,
        "initializer_range": config.initializer_range,
        "reorder_and_upcast_attn": True,
        "scale_attn_by_inverse_layer_idx": True,
        "enable_flash_attn": False,
        "use_cache": True,
    }


def adapt(config: DecoderConfig) -> DecoderConfig:
    """Its rope rule; logits scaled down in proportion to the width, as muP does (1/32 at the published 8192)."""
    rope = RopeConfig(rule="stepped_base", original_length=ORIGINAL_LENGTH)
    return replace(config, rope=rope, logit_scale=MUP_BASE_WIDTH / config.hidden_size)
