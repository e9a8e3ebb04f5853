"""Llama's published keys <-> ``DecoderConfig``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from beichen.errors import ConfigError, nearest
from beichen.models.published import PublishedKeys, head_width
from beichen.nn.config import DecoderConfig, RopeConfig

INERT = frozenset({"pretraining_tp"})  # splits a product into slices, with equal results

_ROPE_KEYS = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}),
}


def to_decoder_config(published: Mapping[str, Any]) -> DecoderConfig:
    """Translate a ``config.json``; a key that is not understood is an error."""
    keys = PublishedKeys(published, family="llama")
    keys.inert(INERT)
    keys.one_of("hidden_act", ("silu",), default="silu")
    hidden_size = keys.integer("hidden_size")
    num_attention_heads = keys.integer("num_attention_heads")
    attention_bias = keys.boolean("attention_bias", default=False)
    mlp_bias = keys.boolean("mlp_bias", default=False)
    config = DecoderConfig(
        vocab_size=keys.integer("vocab_size"),
        hidden_size=hidden_size,
        num_hidden_layers=keys.integer("num_hidden_layers"),
        num_attention_heads=num_attention_heads,
        num_key_value_heads=keys.optional_integer("num_key_value_heads") or num_attention_heads,
        head_dim=keys.optional_integer("head_dim") or head_width(hidden_size, num_attention_heads, heads_key="num_attention_heads"),
        intermediate_size=keys.integer("intermediate_size"),
        max_position_embeddings=keys.integer("max_position_embeddings", default=2048),
        norm_eps=keys.number("rms_norm_eps", default=1e-6),
        rope=_rope(keys),
        query_key_value_bias=attention_bias,
        attention_output_bias=attention_bias,
        gate_up_bias=mlp_bias,
        down_bias=mlp_bias,
        tie_word_embeddings=keys.boolean("tie_word_embeddings", default=False),
        attention_dropout=keys.number("attention_dropout", default=0.0),
        initializer_range=keys.number("initializer_range", default=0.02),
    )
    keys.finish()
    return config


def publish(config: DecoderConfig) -> dict[str, Any]:
    """The keys of a ``LlamaForCausalLM`` (``rope_theta`` and ``rope_scaling``, the form that every reader knows)."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
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
        "rope_theta": config.rope.base,
        "rope_scaling": _rope_scaling(config.rope),
        "attention_bias": config.attention_output_bias,
        "mlp_bias": config.down_bias,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.initializer_range,
        "use_cache": True,
    }


def adapt(config: DecoderConfig) -> DecoderConfig:
    """Llama is the plain decoder."""
    return config


def _rope(keys: PublishedKeys) -> RopeConfig:
    """From ``rope_theta`` + ``rope_scaling``, or from ``rope_parameters`` (transformers 5), which holds both."""
    base = keys.number("rope_theta", default=10000.0)
    scaling, parameters = keys.mapping("rope_scaling"), keys.mapping("rope_parameters")
    if scaling and parameters:
        raise ConfigError("config.json holds both 'rope_scaling' and 'rope_parameters': they state one fact", remedy="keep one of the two")
    name, table = ("rope_parameters", dict(parameters)) if parameters else ("rope_scaling", dict(scaling or {}))
    old_type, new_type = table.pop("type", None), table.pop("rope_type", None)
    if old_type is not None and new_type is not None and old_type != new_type:
        raise ConfigError(f"config.json: {name} states the rule twice, as type={old_type!r} and rope_type={new_type!r}")
    rule = new_type or old_type or "default"
    if rule not in _ROPE_KEYS:
        raise ConfigError(
            f"config.json: {name} asks for the rope rule {rule!r}{nearest(str(rule), _ROPE_KEYS)}", remedy=f"known: {', '.join(_ROPE_KEYS)}"
        )
    if parameters and "rope_theta" in table:
        base = _positive(name, "rope_theta", table.pop("rope_theta"))
    values: dict[str, float] = {}
    for key in _ROPE_KEYS[rule]:
        if key not in table:
            raise ConfigError(f"config.json: {name} with the rule '{rule}' lacks '{key}'")
        values[key] = _positive(name, key, table.pop(key))
    if table:
        raise ConfigError(f"config.json: {name} holds {', '.join(map(repr, table))}, which the rope rule '{rule}' does not know")
    return RopeConfig(
        base=base,
        rule=cast(Literal["default", "linear", "llama3"], rule),
        factor=values.get("factor", 1.0),
        low_frequency_factor=values.get("low_freq_factor", 1.0),
        high_frequency_factor=values.get("high_freq_factor", 4.0),
        original_length=int(values.get("original_max_position_embeddings", 0)),
    )


def _positive(table: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ConfigError(f"config.json: {table}.{key}={value!r} is not a positive number")
    return float(value)


def _rope_scaling(rope: RopeConfig) -> dict[str, Any] | None:
    every = {
        "factor": rope.factor,
        "low_freq_factor": rope.low_frequency_factor,
        "high_freq_factor": rope.high_frequency_factor,
        "original_max_position_embeddings": rope.original_length,
    }
    if rope.rule == "default" or rope.rule not in _ROPE_KEYS:  # a rule that Llama lacks is refused by the caller's comparison
        return None
    return {"rope_type": rope.rule} | {key: every[key] for key in sorted(_ROPE_KEYS[rope.rule])}
