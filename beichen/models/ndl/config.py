"""NDL's published keys <-> ``DecoderConfig``: one set of keys, and those of the experts where the architecture has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beichen.errors import ConfigError
from beichen.models.family import Compatibility, rounded_rope
from beichen.models.published import SELECTION_BIAS, PublishedKeys, head_width
from beichen.nn.config import DecoderConfig, ExpertsConfig, RopeConfig

DENSE, MIXTURE = ("NDLForCausalLM", "Ndl"), ("NDLMOEForCausalLM", "NdlMOE")  # architecture, model_type

INERT = frozenset({
    "pretraining_tp",  # splits a product into slices, with equal results
    "use_flash_attn", "attn_implementation",  # these choose a kernel, not a result
})  # fmt: skip


def _rounded_experts(config: DecoderConfig) -> DecoderConfig:
    return config if config.experts is None else replace(config, experts=replace(config.experts, output_rounding="bfloat16"))


COMPATIBILITY = {
    "original_rope": Compatibility(
        summary="rope's frequencies are rounded to bfloat16, as the original's constructor does (released weights were trained with that)",
        change=rounded_rope("bfloat16_frequencies"),
        golden_suffix="_rope_bf16",
    ),
    "original_experts": Compatibility(
        summary="the output of every mixture layer is rounded to bfloat16 in every number format, as the original does",
        change=_rounded_experts,
        golden_suffix="_moe_bf16cast",
    ),
}


def to_decoder_config(published: Mapping[str, Any]) -> DecoderConfig:
    """Translate a ``config.json``; a key that is not understood is an error."""
    keys = PublishedKeys(published, family="ndl")
    keys.inert(INERT)
    hidden_size = keys.integer("hidden_size")
    num_attention_heads = keys.integer("num_attention_heads")
    trained_length = keys.integer("max_position_embeddings")
    bias = keys.boolean("attention_bias", default=False)
    config = DecoderConfig(
        vocab_size=keys.integer("vocab_size"),
        hidden_size=hidden_size,
        num_hidden_layers=keys.integer("num_hidden_layers"),
        num_attention_heads=num_attention_heads,
        num_key_value_heads=keys.optional_integer("num_key_value_heads") or num_attention_heads,
        head_dim=head_width(hidden_size, num_attention_heads, heads_key="num_attention_heads"),
        intermediate_size=keys.integer("intermediate_size"),
        max_position_embeddings=trained_length,
        norm_eps=keys.number("rms_norm_eps", default=1e-6),
        rope=_rope(keys, published, trained_length),
        query_key_value_bias=bias,
        attention_output_bias=bias,
        tie_word_embeddings=keys.boolean("tie_word_embeddings", default=False),
        attention_dropout=keys.number("attention_dropout", default=0.0),
        experts=_experts(keys) if _is_mixture(published) else None,
        initializer_range=keys.number("initializer_range", default=0.02),
    )
    keys.finish()
    return config


def _is_mixture(published: Mapping[str, Any]) -> bool:
    architecture, model_type = MIXTURE
    return architecture in (published.get("architectures") or ()) or published.get("model_type") == model_type


def _rope(keys: PublishedKeys, published: Mapping[str, Any], trained_length: int) -> RopeConfig:
    """``rope_scaling`` is null or the word NTK: the base grows in proportion to the length beyond the trained one."""
    keys.inert({"rope_scaling"})
    scaling, base = published.get("rope_scaling"), keys.number("rope_theta", default=10000.0)
    if scaling not in (None, "NTK"):
        raise ConfigError(f"config.json: rope_scaling={scaling!r} is not supported by family 'ndl'", remedy='known: null, "NTK"')
    return RopeConfig(base=base) if scaling is None else RopeConfig(base=base, rule="dynamic_ntk", original_length=trained_length)


def _experts(keys: PublishedKeys) -> ExpertsConfig | None:
    """Shared experts are one feed-forward of their joint width; a single choice is never renormalised."""
    width, choices = keys.integer("moe_intermediate_size"), keys.integer("num_experts_per_tok")
    sigmoid = keys.one_of("scoring_func", ("softmax", "sigmoid"), default="softmax") == "sigmoid"  # the original knows the first alone
    normalize, experts = keys.boolean("norm_topk_prob", default=False), keys.optional_integer("n_routed_experts")
    shared, first_dense = keys.optional_integer("n_shared_experts"), keys.integer("first_k_dense_replace", default=1)
    frequency, biased = keys.integer("moe_layer_freq", default=1), keys.boolean(SELECTION_BIAS, default=False)
    factor, by_row = keys.number("aux_loss_alpha", default=0.001), keys.boolean("seq_aux", default=True)
    if experts is None:
        return None
    return ExpertsConfig(
        num_experts=experts,
        num_experts_per_token=choices,
        intermediate_size=width,
        shared_intermediate_size=(shared or 0) * width,
        first_dense_layers=first_dense,
        layer_frequency=frequency,
        scoring="sigmoid" if sigmoid else "softmax",
        normalize_top_k=normalize and choices > 1,
        selection_bias=biased,
        balance_factor=factor,
        balance_form="sequence" if by_row else "batch",
    )


def publish(config: DecoderConfig) -> dict[str, Any]:
    """All keys of the original config classes that say something of the network."""
    experts = config.experts
    architecture, model_type = DENSE if experts is None else MIXTURE
    keys: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "initializer_range": config.initializer_range,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "rope_theta": config.rope.base,
        "rope_scaling": "NTK" if config.rope.rule == "dynamic_ntk" else None,
        "attention_bias": config.attention_output_bias,
        "attention_dropout": config.attention_dropout,
        "use_cache": True,
    }
    if experts is not None:
        keys |= {
            "moe_intermediate_size": experts.intermediate_size,
            "n_shared_experts": experts.shared_intermediate_size // experts.intermediate_size or None,
            "n_routed_experts": experts.num_experts,
            "num_experts_per_tok": experts.num_experts_per_token,
            "moe_layer_freq": experts.layer_frequency,
            "first_k_dense_replace": experts.first_dense_layers,
            "norm_topk_prob": experts.normalize_top_k,
            "aux_loss_alpha": experts.balance_factor,
            "scoring_func": experts.scoring,
            "seq_aux": experts.balance_form == "sequence",
        }
        if experts.selection_bias:
            keys[SELECTION_BIAS] = True
    return keys


def adapt(config: DecoderConfig) -> DecoderConfig:
    """The plain decoder with the original's epsilon."""
    return replace(config, norm_eps=1e-6)
