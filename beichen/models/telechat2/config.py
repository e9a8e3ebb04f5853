"""TeleChat2's published keys <-> ``DecoderConfig``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beichen.models.family import Compatibility, rounded_rope
from beichen.models.published import SELECTION_BIAS, PublishedKeys, head_width
from beichen.nn.config import DecoderConfig, ExpertsConfig, RopeConfig

INERT = frozenset({
    # the original code never reads these, or only its chat() helper does
    "attention_softmax_in_fp32", "bias_dropout_fusion", "logn", "masked_softmax_fusion", "n_inner", "offset_alibi", "pretraining_tp",
    "semi_causal", "seq_length", "skip_bias_add", "skip_bias_add_qkv", "slow_but_exact",
    # these choose a kernel, not a result
    "flash_attn", "enable_flash_attn",
})  # fmt: skip

COMPATIBILITY = {
    "original_rope": Compatibility(
        summary="cos and sin of rope are rounded to float16 in every number format, as the original does; here they stay float32",
        change=rounded_rope("float16_tables"),
        golden_suffix="_half_rope",
    )
}


def to_decoder_config(published: Mapping[str, Any], *, family: str = "telechat2") -> DecoderConfig:
    """Translate a ``config.json``; a key that is not understood is an error."""
    keys = PublishedKeys(published, family=family)
    keys.inert(INERT)
    hidden_size = keys.integer("hidden_size", "n_embed")
    num_attention_heads = keys.integer("n_head", "num_attention_heads")
    trained_length = keys.integer("training_seqlen")
    config = DecoderConfig(
        vocab_size=keys.integer("vocab_size"),
        hidden_size=hidden_size,
        num_hidden_layers=keys.integer("n_layer", "num_hidden_layers"),
        num_attention_heads=num_attention_heads,
        num_key_value_heads=keys.optional_integer("num_key_value_heads") or num_attention_heads,
        head_dim=head_width(hidden_size, num_attention_heads, heads_key="n_head"),
        intermediate_size=keys.integer("ffn_hidden_size"),
        max_position_embeddings=trained_length,
        norm_eps=keys.number("layer_norm_epsilon", default=1e-5),
        rope=RopeConfig(rule="scaled_stepped_ntk", original_length=keys.integer("base_seqlen"), trained_length=trained_length),
        attention_output_bias=True,
        down_bias=True,
        tie_word_embeddings=keys.boolean("tie_word_embeddings", default=True),
        embedding_norm=keys.boolean("embed_layernorm", default=False),
        residual_after_norm=keys.boolean("apply_residual_connection_post_layernorm", default=False),
        attention_dropout=keys.number("attention_dropout", default=0.0),
        hidden_dropout=keys.number("hidden_dropout", default=0.0),
        experts=_experts(keys) if "num_experts" in published else None,
        initializer_range=keys.number("initializer_range", default=0.02),
    )
    keys.finish()
    return config


def _experts(keys: PublishedKeys) -> ExpertsConfig:
    """No published file of the mixture is at hand: keys as in its README, defaults as in its published training file."""
    return ExpertsConfig(
        num_experts=keys.integer("num_experts"),
        num_experts_per_token=keys.integer("num_chosen_experts"),
        intermediate_size=keys.integer("ffn_hidden_size"),
        down_bias=True,
        normalize_top_k=True,
        selection_bias=keys.boolean(SELECTION_BIAS, default=False),
        balance_factor=keys.number("aux_loss_factor", default=0.01),
        capacity_factor=keys.number("capacity_factor", default=0.0) or None,
    )


def publish(config: DecoderConfig) -> dict[str, Any]:
    """The keys that the original code reads, in the form of the 115B file, and those of the mixture if it is one."""
    experts = config.experts
    mixture = {} if experts is None else {
        "num_experts": experts.num_experts,
        "num_chosen_experts": experts.num_experts_per_token,
        "aux_loss_factor": experts.balance_factor,
        "capacity_factor": experts.capacity_factor or 0.0,
    }  # fmt: skip
    if experts is not None and experts.selection_bias:
        mixture[SELECTION_BIAS] = True
    return {
        "architectures": ["TeleChat2ForCausalLM"],
        "model_type": "telechat",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "ffn_hidden_size": config.intermediate_size,
        "layer_norm_epsilon": config.norm_eps,
        "initializer_range": config.initializer_range,
        "attention_dropout": config.attention_dropout,
        "hidden_dropout": config.hidden_dropout,
        "apply_residual_connection_post_layernorm": config.residual_after_norm,
        "embed_layernorm": config.embedding_norm,
        "tie_word_embeddings": config.tie_word_embeddings,
        "training_seqlen": config.max_position_embeddings,
        "base_seqlen": config.rope.original_length or config.max_position_embeddings,
        "seq_length": config.max_position_embeddings,
        "flash_attn": False,
        "use_cache": True,
    } | mixture


def adapt(config: DecoderConfig) -> DecoderConfig:
    """Biases into the residual stream; a rope base that is unstretched within the trained length; choices whose weights sum to 1."""
    length, experts = config.max_position_embeddings, config.experts
    if experts is not None:
        experts = replace(experts, down_bias=True, normalize_top_k=True)
        config = replace(config, intermediate_size=experts.intermediate_size)  # every layer is a mixture: one key states the width
    rope = RopeConfig(rule="scaled_stepped_ntk", original_length=length, trained_length=length)
    return replace(config, rope=rope, attention_output_bias=True, down_bias=True, experts=experts)
