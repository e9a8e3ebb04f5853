"""Texts as vectors: the mean of a language model's final hidden states, scaled to length 1.

Comes in: ids of texts. Goes out: [texts, hidden] float32. The work is cut into parts of bounded size, so that whoever runs it can do
something else between two of them. Law: a text's vector does not depend on its company or on the cuts, beyond rounding.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn.cache import DenseCache
from beichen.nn.decoder import Decoder
from beichen.nn.spans import Updates


def embed(
    decoder: Decoder, texts: Sequence[Sequence[int]], *, part_tokens: int, updates: Updates | None = None
) -> Generator[bool, None, Tensor]:
    """A generator that returns the vectors. It yields behind each part, of at most ``part_tokens`` tokens, padding included: whether
    nothing is held for the next one, so that others may go first. updates: an adapter that moves the decoder."""
    vectors = torch.empty(len(texts), decoder.config.hidden_size)
    for group in _groups(texts, part_tokens):
        lengths = [len(texts[place]) for place in group]
        if max(lengths) > part_tokens:
            total = yield from _long_sum(decoder, texts[group[0]], part_tokens, updates)
        else:
            total = _sums(decoder, [texts[place] for place in group], updates)
        vectors[group] = F.normalize(total, dim=1).cpu()
        yield True
    return vectors


def _groups(texts: Sequence[Sequence[int]], part_tokens: int) -> Iterator[list[int]]:
    """Places of texts of like length, as many as fit into a part; a longer text stands alone."""
    group: list[int] = []
    for place in sorted(range(len(texts)), key=lambda place: len(texts[place])):
        if group and (len(group) + 1) * len(texts[place]) > part_tokens:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


@torch.inference_mode()
def _sums(decoder: Decoder, texts: Sequence[Sequence[int]], updates: Updates | None) -> Tensor:
    """Sums of the hidden states of whole texts, padded on the right, where no earlier token sees it.  -> [texts, hidden]"""
    device, lengths = decoder.device, [len(text) for text in texts]
    ids = torch.zeros(len(texts), max(lengths), dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    hidden = decoder(ids.to(device), rope_length=lengths, updates=updates).float()
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return hidden.mul(real.to(device)[:, :, None]).sum(1)


def _long_sum(decoder: Decoder, text: Sequence[int], part_tokens: int, updates: Updates | None) -> Generator[bool, None, Tensor]:
    """The same for one text that is read in several parts.  -> [1, hidden]"""
    cache = DenseCache(decoder.config, rows=1, capacity=len(text), dtype=decoder.dtype, device=decoder.device)
    total = torch.zeros(1, decoder.config.hidden_size, device=decoder.device)
    for begin in range(0, len(text), part_tokens):
        if begin:
            yield False
        with torch.inference_mode():
            ids = torch.tensor([text[begin : begin + part_tokens]], device=decoder.device)
            total = total + decoder(ids, cache=cache, rope_length=len(text), updates=updates).float().sum(1)
    return total
