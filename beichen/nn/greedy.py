"""The plain loop: one sequence, its likeliest ids one by one. What every engine must equal."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from beichen.nn.cache import DenseCache
from beichen.nn.decoder import Decoder


def greedy_logits(decoder: Decoder, prompt: Tensor, *, length: int) -> Iterator[Tensor]:
    """Logits [vocab] of each next id behind ``prompt`` [tokens], the likeliest taken each time, until ``length`` ids in all."""
    cache = DenseCache(decoder.config, rows=1, capacity=length, dtype=decoder.dtype, device=decoder.device)
    ids = prompt[None]
    for _ in range(length - len(prompt)):
        logits = decoder.logits(decoder(ids, cache=cache, rope_length=length)[0, -1])
        yield logits
        ids = logits.argmax().reshape(1, 1)
