"""Every published size of every family, and how many parameters a decoder has, counted on the meta device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from beichen.models.family import Family
from beichen.models.registry import FAMILIES, load_family
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Parameters of one decoder. Active: what a token passes through; non-embedding: without the embedding and an untied head."""

    total: int
    active: int
    non_embedding: int
    active_non_embedding: int


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published size."""

    name: str
    family: Family
    published: Mapping[str, Any]

    @property
    def config(self) -> DecoderConfig:
        """The decoder that the published config describes."""
        return self.family.to_decoder_config(self.published)


def presets() -> Iterator[Preset]:
    """All of them, family by family."""
    for name in FAMILIES:
        family = load_family(name)
        for size, published in family.sizes.items():
            yield Preset(name=size, family=family, published=published)


def count_parameters(config: DecoderConfig) -> ParameterCounts:
    """No storage is taken, whatever the size."""
    with torch.device("meta"):
        decoder = Decoder(config)
    sizes = {name: parameter.numel() for name, parameter in decoder.named_parameters()}
    total, embeddings, idle = sum(sizes.values()), sizes["embedding.weight"] + sizes.get("head.weight", 0), 0
    if config.experts is not None:
        stacked = sum(size for name, size in sizes.items() if ".experts." in name)
        idle = stacked // config.experts.num_experts * (config.experts.num_experts - config.experts.num_experts_per_token)
    return ParameterCounts(
        total=total, active=total - idle, non_embedding=total - embeddings, active_non_embedding=total - embeddings - idle
    )
