"""What one decoder is: each fact in which the families differ is one field with one meaning.

A family's ``config.py`` translates its published keys into this once, at the door; nothing in ``nn`` ever
sees a family's name. Tables of published keys stand in ``models/<family>/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from beichen.errors import ConfigError

RopeRuleName = Literal[
    "default", "linear", "ntk", "dynamic_ntk", "stepped_ntk", "scaled_stepped_ntk", "stepped_base", "yarn", "llama3"
]  # fmt: skip

_ROPE_NEEDS: dict[RopeRuleName, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "ntk": ("factor",),
    "dynamic_ntk": ("factor", "original_length"),
    "stepped_ntk": ("original_length",),
    "scaled_stepped_ntk": ("original_length", "trained_length"),
    "stepped_base": ("original_length",),
    "yarn": ("factor", "original_length", "attention_scale", "fast_turns", "slow_turns"),
    "llama3": ("factor", "original_length", "low_frequency_factor"),
}


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Which rotation rule acts on queries and keys, and its numbers; the rules themselves stand in ``nn/rope.py``.

    Of fixed effect: ``default``; ``linear`` (positions divided by ``factor``); ``ntk`` (base stretched by ``factor``); ``yarn`` and
    ``llama3`` (slow pairs divided by ``factor``, fast ones kept). Beyond ``original_length`` only: ``dynamic_ntk`` (base stretched
    with the length), ``stepped_ntk`` (the same in steps), ``scaled_stepped_ntk`` (with larger scores beyond ``trained_length``),
    ``stepped_base`` (base times the step itself).
    """

    base: float = 10000.0
    rule: RopeRuleName = "default"
    factor: float = 1.0  # linear, ntk, dynamic_ntk, yarn, llama3
    original_length: int = 0  # all that stretch by length, yarn, llama3: up to here nothing needs stretching
    trained_length: int = 0  # scaled_stepped_ntk: shorter inputs use the table of this length
    low_frequency_factor: float = 1.0  # llama3: pairs that turn less often than this over the original length are divided
    high_frequency_factor: float = 4.0  # llama3: pairs that turn more often than this are kept
    slow_turns: float = 1.0  # yarn: as the low factor of llama3, in its own formula
    fast_turns: float = 32.0  # yarn: as the high factor
    whole_pairs: bool = True  # yarn: the ramp begins and ends at whole numbers of pairs
    attention_scale: float = 1.0  # yarn: on cos and sin
    # what an original code rounds and exact arithmetic does not; how a network is computed, not which one it is: so not compared
    rounding: Literal["none", "float16_tables", "bfloat16_frequencies"] = field(default="none", compare=False)

    def __post_init__(self) -> None:
        for key in ("base", *_ROPE_NEEDS[self.rule]):
            if getattr(self, key) <= 0:
                raise ConfigError(f"rope rule '{self.rule}': {key}={getattr(self, key)} must be positive")
        if self.rule == "yarn" and self.base <= 1:
            raise ConfigError(f"rope rule 'yarn': base={self.base} must exceed 1: the pair that turns so often is sought by its logarithm")
        for rule, low, high in (("llama3", "low_frequency_factor", "high_frequency_factor"), ("yarn", "slow_turns", "fast_turns")):
            if self.rule == rule and getattr(self, high) <= getattr(self, low):
                raise ConfigError(
                    f"rope rule '{rule}': {high}={getattr(self, high)} must be above {low}={getattr(self, low)}: "
                    "frequencies between the two are blended"
                )

    @property
    def stretches_base(self) -> bool:
        """Whether the base grows by a power of d / (d - 2), which a head of one pair does not have."""
        return self.rule in ("ntk", "dynamic_ntk", "stepped_ntk", "scaled_stepped_ntk")


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """A mixture-of-experts feed-forward: which layers have it, how tokens choose, and what training asks of the choices."""

    num_experts: int
    num_experts_per_token: int
    intermediate_size: int  # of one routed expert
    shared_intermediate_size: int = 0  # of the always-on expert, 0 = none
    down_bias: bool = False  # of each routed expert; the weight of the choice acts on it too
    first_dense_layers: int = 0
    layer_frequency: int = 1  # layer i (>= first_dense_layers) is a mixture if i % layer_frequency == 0
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    normalize_top_k: bool = False  # the weights of a token's choices sum to 1
    selection_bias: bool = False  # each expert has a number that is added to its score when experts are chosen, not in the weights
    # what training asks of the choices, as far as published configs say it; a recipe's experts_training may ask otherwise
    balance_factor: float = 0.0  # of the balance loss in training, 0 = none
    balance_form: Literal["sequence", "batch"] = "batch"  # experts are to be used alike within each row, or over the rows of a pass
    capacity_factor: float | None = None  # in training an expert serves so many times its even share of choices; None = all of them
    output_rounding: Literal["none", "bfloat16"] = field(default="none", compare=False)  # as ``RopeConfig.rounding``

    def __post_init__(self) -> None:
        for key in ("num_experts", "num_experts_per_token", "intermediate_size", "layer_frequency"):
            if getattr(self, key) <= 0:
                raise ConfigError(f"experts: {key}={getattr(self, key)} must be positive")
        if self.num_experts_per_token > self.num_experts:
            raise ConfigError(f"experts: num_experts_per_token={self.num_experts_per_token} of only num_experts={self.num_experts}")
        for key in ("shared_intermediate_size", "first_dense_layers", "balance_factor"):
            if getattr(self, key) < 0:
                raise ConfigError(f"experts: {key}={getattr(self, key)} must not be negative")
        if self.capacity_factor is not None and self.capacity_factor <= 0:
            raise ConfigError(f"experts: capacity_factor={self.capacity_factor} must be positive, or absent for no limit")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A causal decoder, complete: from this alone the module tree and its parameter count follow."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int  # the trained length, in tokens

    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-5
    rope: RopeConfig = RopeConfig()
    query_key_value_bias: bool = False
    attention_output_bias: bool = False
    gate_up_bias: bool = False
    down_bias: bool = False
    query_key_norm: bool = False  # RMSNorm over each head's query and key before rotation
    query_scaling_length: int | None = None  # queries at place p (from 1) beyond it grow by ln(p) / ln(it), to stay as sharp over more keys
    stretch_in_training: bool = True  # rope rule and query scaling act beyond the trained length in training mode too
    tie_word_embeddings: bool = False
    embedding_scale: float = 1.0
    embedding_norm: bool = False  # a norm directly after the embedding
    residual_after_norm: bool = False  # the residual branch starts from the normed input
    logit_scale: float = 1.0
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    experts: ExpertsConfig | None = None
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                    "intermediate_size", "max_position_embeddings"):  # fmt: skip
            if getattr(self, key) <= 0:
                raise ConfigError(f"{key}={getattr(self, key)}: must be positive")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads={self.num_attention_heads} is not a multiple of num_key_value_heads={self.num_key_value_heads}: "
                "each key/value head serves a whole group of query heads",
                remedy="correct one of the two in config.json",
            )
        if self.query_scaling_length is not None and self.query_scaling_length < 2:
            raise ConfigError(f"query_scaling_length={self.query_scaling_length}: queries are divided by its logarithm, so it is 2 or more")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim} is odd: rotary embedding turns pairs of channels")
        if self.rope.stretches_base and self.head_dim == 2:
            raise ConfigError(
                f"head_dim=2: the rope rule '{self.rope.rule}' stretches its base by a power of d / (d - 2)",
                remedy="use fewer, wider heads",
            )

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_size(self) -> int:
        """Width of all key heads together (values have the same)."""
        return self.num_key_value_heads * self.head_dim

    def experts_of(self, layer: int) -> ExpertsConfig | None:
        """The mixture that stands in this layer's place of a feed-forward, if one does."""
        experts = self.experts
        if experts is None or layer < experts.first_dense_layers or layer % experts.layer_frequency:
            return None
        return experts
