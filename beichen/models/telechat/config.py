"""TeleChat's published keys <-> ``DecoderConfig``: those of TeleChat2, without grouped heads and without ``base_seqlen``.

The length up to which the rope base is unstretched is a constant in each original modelling file. The config does not
state it; the tied head tells 7B from 12B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beichen.models.telechat2 import config as telechat2
from beichen.nn.config import DecoderConfig

COMPATIBILITY = telechat2.COMPATIBILITY
BASE_LENGTH_TIED, BASE_LENGTH_UNTIED = 4096, 8192
_LATER_KEYS = ("base_seqlen", "num_key_value_heads")


def base_length(*, tied: bool) -> int:
    """The constant of the 7B file (tied head) or of the 12B files."""
    return BASE_LENGTH_TIED if tied else BASE_LENGTH_UNTIED


def to_decoder_config(published: Mapping[str, Any]) -> DecoderConfig:
    """Translate a ``config.json``; a key that is not understood is an error."""
    tied = published.get("tie_word_embeddings", True) is not False
    return telechat2.to_decoder_config({"base_seqlen": base_length(tied=tied)} | dict(published), family="telechat")


def publish(config: DecoderConfig) -> dict[str, Any]:
    """The keys of the 12B file that the original code reads; a mixture, which a reader would take for TeleChat2, is not said."""
    keys = telechat2.publish(replace(config, experts=None)) | {"architectures": ["TelechatForCausalLM"]}
    return {key: value for key, value in keys.items() if key not in _LATER_KEYS}


def adapt(config: DecoderConfig) -> DecoderConfig:
    """A TeleChat2 whose rope base follows the constant of the original code."""
    config = telechat2.adapt(config)
    return replace(config, rope=replace(config.rope, original_length=base_length(tied=config.tie_word_embeddings)))
