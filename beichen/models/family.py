"""What a family folder offers: its tables, gathered in one value named ``FAMILY``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from beichen.errors import ConfigError, nearest
from beichen.models.licence import Licence
from beichen.models.naming import NameTable
from beichen.models.published import head_width
from beichen.nn.config import DecoderConfig, ExpertsConfig


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """Something that the original code does wrong and released weights may have been trained with: off, unless asked for by name."""

    summary: str  # what it does, one sentence for the documentation
    change: Callable[[DecoderConfig], DecoderConfig]
    golden_suffix: str  # how goldens mark what the original gives with this fault: logits<suffix>, loss<suffix>


def rounded_rope(rounding: Literal["float16_tables", "bfloat16_frequencies"]) -> Callable[[DecoderConfig], DecoderConfig]:
    """The change of a ``Compatibility``: rope is rounded."""
    return lambda config: replace(config, rope=replace(config.rope, rounding=rounding))


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture family, as tables."""

    name: str
    to_decoder_config: Callable[[Mapping[str, Any]], DecoderConfig]
    publish: Callable[[DecoderConfig], dict[str, Any]]  # published keys, not yet checked; use ``from_decoder_config``
    adapt: Callable[[DecoderConfig], DecoderConfig]  # what the family fixes (biases, rope rule, scales), set in a decoder of plain sizes
    names: NameTable
    sizes: Mapping[str, Mapping[str, Any]]  # preset name -> published config
    chat_template: str | None  # a template of ``text``; None where none is written yet
    licence: Licence  # of the published weights
    has_experts: bool = False  # whether its published keys can say a mixture
    compatibility: Mapping[str, Compatibility] = field(default_factory=dict)  # by name
    layouts: Mapping[str, NameTable] = field(default_factory=dict)  # how other frameworks lay the weights out, by name
    expert_layouts: frozenset[str] = frozenset()  # of these, those that differ in experts alone

    def layouts_of(self, config: DecoderConfig) -> dict[str, NameTable]:
        """The layouts of a model: those that differ in how experts lie are of models that have experts."""
        return {name: table for name, table in self.layouts.items() if config.experts is not None or name not in self.expert_layouts}

    def compatible(self, config: DecoderConfig, names: Iterable[str]) -> DecoderConfig:
        """``config`` with these compatibilities on."""
        for name in names:
            if name not in self.compatibility:
                known = ", ".join(self.compatibility) or "none"
                raise ConfigError(
                    f"family '{self.name}' has no compatibility '{name}'{nearest(name, self.compatibility)}", remedy=f"known: {known}"
                )
            config = self.compatibility[name].change(config)
        return config

    def new_config(
        self,
        *,
        vocab_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_attention_heads: int,
        num_key_value_heads: int | None = None,
        intermediate_size: int,
        max_position_embeddings: int,
        tie_word_embeddings: bool = False,
        experts: ExpertsConfig | None = None,
    ) -> DecoderConfig:
        """A decoder of this family, of any size."""
        plain = DecoderConfig(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            num_key_value_heads=num_key_value_heads or num_attention_heads,
            head_dim=head_width(hidden_size, num_attention_heads, heads_key="num_attention_heads"),
            intermediate_size=intermediate_size,
            max_position_embeddings=max_position_embeddings,
            tie_word_embeddings=tie_word_embeddings,
            experts=experts,
        )
        return self.adapt(plain)

    def from_decoder_config(self, config: DecoderConfig) -> dict[str, Any]:
        """The published config of a decoder; an error if this family's keys cannot say what the decoder is."""
        published = self.publish(config)
        understood = self.to_decoder_config(published)
        if understood != config:
            differing = [
                f"{field.name}={getattr(config, field.name)!r}"
                for field in fields(DecoderConfig)
                if getattr(config, field.name) != getattr(understood, field.name)
            ]
            raise ConfigError(f"family '{self.name}' has no published keys for {', '.join(differing)}")
        return published
