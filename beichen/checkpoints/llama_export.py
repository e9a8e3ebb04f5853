"""The same weights in Llama layout, so that stock ``transformers`` (and everything that reads Llama) computes equal logits.

Llama has biases on all projections of a block or on none; the missing ones are written as zeros. A rope base that is stretched
within the trained length becomes Llama's ``rope_theta``; beyond the trained length the two families differ by design.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import ConfigError
from beichen.nn.config import DecoderConfig, RopeConfig
from beichen.nn.decoder import Decoder
from beichen.nn.rope import step_factor
from beichen.util.progress import SILENT, Reporter

STEPPED = ("stepped_ntk", "stepped_base")  # plain up to their original length
TOKEN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")


def beyond_llama(config: DecoderConfig) -> list[str]:
    """The keys of this decoder that Llama layout cannot say; empty where it can be exported."""
    differs = {
        "norm": config.norm != "rms",
        "query_key_norm": config.query_key_norm,
        "query_scaling_length": config.query_scaling_length is not None,
        "embedding_scale": config.embedding_scale != 1.0,
        "embedding_norm": config.embedding_norm,
        "residual_after_norm": config.residual_after_norm,
        "logit_scale": config.logit_scale != 1.0,
        "experts": config.experts is not None,
        "rope": config.rope.rule in STEPPED and config.max_position_embeddings > config.rope.original_length,
    }
    return [key for key in differs if differs[key]]


def llama_config(config: DecoderConfig) -> DecoderConfig:
    """The Llama decoder that computes the same as ``config`` up to its trained length; an error where none exists."""
    found = [f"{key}={getattr(config, key)!r}" for key in beyond_llama(config)]
    if found:
        raise ConfigError(f"Llama layout cannot say {', '.join(found)}", remedy="serve this model in its own layout")
    attention_bias = config.query_key_value_bias or config.attention_output_bias
    mlp_bias = config.gate_up_bias or config.down_bias
    return replace(
        config,
        rope=_rope(config),
        query_key_value_bias=attention_bias,
        attention_output_bias=attention_bias,
        gate_up_bias=mlp_bias,
        down_bias=mlp_bias,
        hidden_dropout=0.0,
    )


def _rope(config: DecoderConfig) -> RopeConfig:
    rope = config.rope
    if rope.rule in STEPPED:
        return RopeConfig(base=rope.base)
    if rope.rule != "scaled_stepped_ntk":
        return rope
    alpha = step_factor(rope.trained_length, rope.original_length)
    return RopeConfig(base=rope.base * alpha ** (config.head_dim / (config.head_dim - 2)))


@torch.no_grad()
def to_llama(decoder: Decoder) -> Decoder:
    """A decoder of Llama form that shares the weights of ``decoder``."""
    config = llama_config(decoder.config)
    with torch.device("meta"):
        llama = Decoder(config)
    have = decoder.state_dict()
    example = next(decoder.parameters())
    state = {}
    for name, wanted in llama.state_dict().items():
        state[name] = have[name] if name in have else torch.zeros(wanted.shape, dtype=example.dtype, device=example.device)
    llama.load_state_dict(state, assign=True)
    return llama.eval()


def export_llama(folder: Path | str, target: Path | str, *, dtype: torch.dtype | None = None, reporter: Reporter = SILENT) -> None:
    """Write the checkpoint in ``folder`` to ``target`` in Llama layout, with its tokenizer and generation files."""
    folder = find_folder(folder, reporter=reporter)
    checkpoint = load_checkpoint(folder, reporter=reporter)
    token_ids = {key: checkpoint.published[key] for key in TOKEN_KEYS if checkpoint.published.get(key) is not None}
    save_checkpoint(
        target, to_llama(checkpoint.decoder), family="llama", token_ids=token_ids, source=folder, dtype=dtype, reporter=reporter
    )
