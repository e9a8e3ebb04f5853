"""The model that all speed figures are about, built twice with the same random weights, and its arithmetic."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.models.llama import FAMILY
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.nn.quantized import Kind

BATCH_ROWS, SEQUENCE_LENGTH = 8, 512


def reference_config() -> DecoderConfig:
    """A Llama of 42M parameters."""
    return FAMILY.new_config(
        vocab_size=16_000, hidden_size=512, num_hidden_layers=8, num_attention_heads=8, intermediate_size=1408, max_position_embeddings=2048
    )


def ndl_shaped_config() -> DecoderConfig:
    """A Llama of the shape of NDL-0.8B, which computes the same."""
    return FAMILY.new_config(
        vocab_size=60_930, hidden_size=1600, num_hidden_layers=12, num_attention_heads=16, intermediate_size=7800,
        max_position_embeddings=2048,
    )  # fmt: skip


def ours(config: DecoderConfig, dtype: torch.dtype) -> Decoder:
    """Our decoder with the run's random weights."""
    decoder = Decoder(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, config.initializer_range, generator=generator)
    return decoder.to(dtype)


def as_loaded(decoder: Decoder, *, quantize: Kind | None = None) -> Decoder:
    """A copy as its user would have it: out of files, in the memory that loading chooses."""
    with tempfile.TemporaryDirectory(prefix="beichen-bench-") as place:
        save_checkpoint(Path(place) / "model", decoder, family=FAMILY.name)
        return load_checkpoint(Path(place) / "model", quantize=quantize).decoder.eval().requires_grad_(False)


def theirs(config: DecoderConfig, dtype: torch.dtype) -> Any:
    """The same weights as a ``LlamaForCausalLM`` of transformers, attention by sdpa."""
    from transformers import LlamaConfig, LlamaForCausalLM

    published = FAMILY.from_decoder_config(config)
    model = LlamaForCausalLM(LlamaConfig(**published, attn_implementation="sdpa"))
    decoder = ours(config, torch.float32)
    views = FAMILY.names.views(dict(decoder.named_parameters()), config)
    model.load_state_dict({name: view.tensor().detach() for name, view in views.items()})
    return model.to(dtype)


def random_batch(config: DecoderConfig, number: int, *, rows: int = BATCH_ROWS, tokens: int = SEQUENCE_LENGTH) -> torch.Tensor:
    """[rows, tokens + 1] random ids; column t + 1 is the target of column t."""
    generator = torch.Generator().manual_seed(1000 + number)
    return torch.randint(config.vocab_size, (rows, tokens + 1), generator=generator)


def head_and_layer_parameters(config: DecoderConfig) -> int:
    """Every parameter but the embedding's; a tied head counts, since its product is computed."""
    with torch.device("meta"):
        decoder = Decoder(config)
    every = sum(parameter.numel() for parameter in decoder.parameters())
    return every - (0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size)


def training_flops_per_token(config: DecoderConfig, tokens: int) -> float:
    """6 x (non-embedding + head parameters) + 12 x layers x hidden x sequence: forward and backward, attention over the whole square."""
    attention = 12.0 * config.num_hidden_layers * config.query_size * tokens
    return 6.0 * head_and_layer_parameters(config) + attention
