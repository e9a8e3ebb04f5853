"""Rounding float32 to bf16 up or down at random, so that what many small steps add up to is kept on average.

The chance of going up is the share of the way that lies behind: the expected value is the number itself, exactly. The random words
follow from a key and an element's place alone (a counter through a mixing function), so a run that is resumed rounds as it would have.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beichen.nn import kernels

_LOW, _EXPONENT = 0xFFFF, 0x7F800000


@torch.no_grad()
def round_stochastically(values: Tensor, out: Tensor, *, key: int, first: int = 0) -> None:
    """values float32 -> out bf16 of the same size. key: 63 bits; first: place of the first element in its tensor."""
    if kernels.can_run(values, dtype=torch.float32) and kernels.can_run(out):
        kernels.round_stochastically(values, out, key=key, first=first)
        return
    places = torch.arange(first, first + values.numel(), device=values.device)
    out.copy_(with_words(values, random_words(places, key).view(values.shape)))


def random_words(places: Tensor, key: int) -> Tensor:
    """32 random bits for each place, int64."""
    return _mix((_mix((places & 0xFFFFFFFF) ^ (key & 0xFFFFFFFF)) + (key >> 32)) & 0xFFFFFFFF)


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit words in which every bit of the input moves half of those of the output (Wellons, "lowbias32")."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & 0xFFFFFFFF
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def with_words(values: Tensor, words: Tensor) -> Tensor:
    """float32 rounded to bf16 by the lower halves of ``words``, int64: added to what is cut off, they carry by chance."""
    bits = values.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    finite = (bits & _EXPONENT) != _EXPONENT
    upper = (bits + torch.where(finite, words & _LOW, 0)) >> 16
    upper = torch.where(values.isnan(), 0x7FC0, upper)
    return torch.where(upper >= 1 << 15, upper - (1 << 16), upper).to(torch.int16).view(torch.bfloat16)
