"""What one decoder is: each fact in which the families differ is one field with one meaning.

A family's ``config.py`` translates its published keys into this once, at the door; nothing in ``nn`` ever
sees a family's name. Tables of published keys stand in ``models/<family>/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from beichen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Which rotation rule acts on queries and keys; the rules themselves stand in ``nn/rope.py``.

    ``rule``: ``default``; ``linear`` (positions divided by ``factor``); ``llama3`` (frequencies rescaled by wavelength);
    ``telechat`` (base stretched in steps with the length, scores scaled beyond ``trained_length``).
    """

    base: float = 10000.0
    rule: Literal["default", "linear", "llama3", "telechat"] = "default"
    factor: float = 1.0  # linear, llama3
    low_frequency_factor: float = 1.0  # llama3
    high_frequency_factor: float = 4.0  # llama3
    original_length: int = 0  # llama3: trained length before stretching; telechat: length up to which the base is unstretched
    trained_length: int = 0  # telechat: shorter inputs use the table of this length

    def __post_init__(self) -> None:
        needed = {
            "default": ("base",),
            "linear": ("base", "factor"),
            "llama3": ("base", "factor", "low_frequency_factor", "original_length"),
            "telechat": ("base", "original_length", "trained_length"),
        }
        for key in needed[self.rule]:
            if getattr(self, key) <= 0:
                raise ConfigError(f"rope rule '{self.rule}': {key}={getattr(self, key)} must be positive")
        if self.rule == "llama3" and self.high_frequency_factor <= self.low_frequency_factor:
            raise ConfigError(
                f"rope rule 'llama3': high_frequency_factor={self.high_frequency_factor} must be above "
                f"low_frequency_factor={self.low_frequency_factor}: frequencies between the two are blended"
            )


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """A mixture-of-experts feed-forward: which layers have it, and how tokens choose."""

    num_experts: int
    num_experts_per_token: int
    intermediate_size: int  # of one routed expert
    shared_intermediate_size: int = 0  # of the always-on expert, 0 = none
    normalize_top_k: bool = False
    first_dense_layers: int = 0
    layer_frequency: int = 1  # layer i (>= first_dense_layers) is a mixture if i % layer_frequency == 0
    down_bias: bool = False


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
        if self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim} is odd: rotary embedding turns pairs of channels")
        if self.rope.rule == "telechat" and self.head_dim == 2:
            raise ConfigError(
                "head_dim=2: TeleChat's rope rule stretches its base by a power of d / (d - 2)", remedy="use fewer, wider heads"
            )

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_size(self) -> int:
        """Width of all key heads together (values have the same)."""
        return self.num_key_value_heads * self.head_dim

    def is_mixture(self, layer: int) -> bool:
        """Whether this layer's feed-forward is a mixture of experts."""
        experts = self.experts
        return experts is not None and layer >= experts.first_dense_layers and layer % experts.layer_frequency == 0
