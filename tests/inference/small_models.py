"""Small decoders with weights far from zero, so that wrong attention shows, and a byte-level tokenizer for them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from beichen.nn.config import DecoderConfig, RopeConfig
from beichen.nn.decoder import Decoder
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.tokenizer import Tokenizer

TEXTS = ["今天天气很好，我们去公园。🙂 hello world", "The quick brown fox jumps over the lazy dog.", "一二三四五六七八九十" * 4]


@cache
def small_tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=320)


def small_config(*, trained_length: int = 64, **changes: Any) -> DecoderConfig:
    settings: dict[str, Any] = {
        "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": trained_length,
        "rope": RopeConfig(rule="scaled_stepped_ntk", original_length=32, trained_length=trained_length),
        "attention_output_bias": True, "down_bias": True,
    }  # fmt: skip
    return DecoderConfig(**{**settings, **changes})


def small_decoder(seed: int = 0, *, trained_length: int = 64, **changes: Any) -> Decoder:
    decoder = Decoder(small_config(trained_length=trained_length, **changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in decoder.named_parameters():
        parameter.data.normal_(1.0 if "norm" in name else 0.0, 0.25, generator=generator)
    return decoder
