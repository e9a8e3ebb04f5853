"""How much memory a key-value cache needs before it holds an answer that is worth having, and how much it can have at all."""

from __future__ import annotations

import torch

from beichen.errors import SettingsError
from beichen.nn.config import DecoderConfig
from beichen.nn.paged_cache import BLOCK_SIZE, block_bytes
from beichen.util.quantities import byte_count

LEAST_TOKENS = 256  # of prompt and answer together: a question and some sentences


def least_bytes(config: DecoderConfig, dtype: torch.dtype, *, most_tokens: int | None = None) -> int:
    """For ``LEAST_TOKENS``, or for as many as are wanted or were trained, where those are fewer."""
    tokens = min(LEAST_TOKENS, most_tokens or config.max_position_embeddings)
    return -(-tokens // BLOCK_SIZE) * block_bytes(config, dtype)


def check_bytes(
    kv_bytes: int, config: DecoderConfig, dtype: torch.dtype, *, most_tokens: int | None = None, memory: int | None = None
) -> None:  # fmt: skip
    """Raises SettingsError where a cache of so many bytes holds less than that, or is more than all the memory that there is."""
    least = least_bytes(config, dtype, most_tokens=most_tokens)
    if kv_bytes < least:
        raise SettingsError(
            f"a key-value cache of {byte_count(kv_bytes)} holds no dialogue of this model",
            remedy=f"{least} bytes ({byte_count(least)}) are the least, and every answer that runs beside wants as much again",
            field="kv_bytes",
        )
    if memory is not None and kv_bytes > memory:
        raise SettingsError(
            f"a key-value cache of {byte_count(kv_bytes)} does not fit into the {byte_count(memory)} of memory that there are",
            remedy="the weights want room beside it; a smaller cache answers fewer at once",
            field="kv_bytes",
        )
