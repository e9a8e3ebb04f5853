"""Arithmetic of a training step: the count by which speeds are given as a share of the matmul peak."""

from __future__ import annotations

from pathlib import Path

import torch

from beichen.checkpoints.loading import load_config
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder


def training_flops_per_token(config: DecoderConfig, sequence_length: int, *, frozen: bool = False) -> float:
    """6 x (non-embedding + head parameters) + 12 x layers x hidden x sequence; the second term counts unmasked attention.

    Of routed experts, those that a token chooses count. frozen: the base takes no gradients of its own, a third of its products less;
    adapters are too small to count.
    """
    with torch.device("meta"):
        decoder = Decoder(config)
    share = 1.0 if config.experts is None else config.experts.num_experts_per_token / config.experts.num_experts
    sizes = {name: parameter.numel() for name, parameter in decoder.named_parameters()}
    parameters = sum(size * share if ".experts." in name else size for name, size in sizes.items())
    embedding = config.vocab_size * config.hidden_size
    multiplied = parameters if config.tie_word_embeddings else parameters - embedding
    return (4.0 if frozen else 6.0) * multiplied + 12.0 * config.num_hidden_layers * config.hidden_size * sequence_length


def flops_per_token(folder: Path | str) -> float:
    """Of a trained checkpoint, at the length that it was trained on."""
    config, _, _ = load_config(folder)
    return training_flops_per_token(config, config.max_position_embeddings)
