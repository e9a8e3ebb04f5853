"""Drawing an id from a distribution by a number that belongs to it alone.

Random numbers are keyed by (seed of the request, index of the new token): what runs in the neighbouring rows, and when, changes nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_BLOCK = 256  # ids whose mass is added up at once: only the block that the number falls into is looked at id by id


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """The id at which the cumulated probability passes ``uniform`` [rows] in [0, 1), from logits [rows, vocab].  -> [rows]"""
    return draw_from(logits.softmax(1), uniform)


def draw_from(weights: Tensor, uniform: Tensor) -> Tensor:
    """The same from weights [rows, vocab], 0 or more, that need not add up to 1."""
    blocks = torch.nn.functional.pad(weights, (0, -weights.shape[1] % _BLOCK)).unflatten(1, (-1, _BLOCK))
    block, rest = _place(blocks.sum(2), uniform.double()[:, None], relative=True)
    inside, _ = _place(blocks.gather(1, block[:, :, None].expand(-1, -1, _BLOCK))[:, 0], rest, relative=False)
    return (block * _BLOCK + inside)[:, 0]


def _place(weights: Tensor, target: Tensor, *, relative: bool) -> tuple[Tensor, Tensor]:
    """Where the cumulated weights [rows, n] pass ``target`` [rows, 1] (``relative``: a share of their sum), never at a weight of 0; and by
    how much the target is above what stands before."""
    cumulated = weights.cumsum(1, dtype=torch.float64)
    total = cumulated[:, -1:]
    target = (target * total if relative else target).minimum(total.nextafter(torch.zeros_like(total)))
    place = torch.searchsorted(cumulated, target, right=True)
    before = torch.nn.functional.pad(cumulated, (1, 0)).gather(1, place)
    return place, (target - before).clamp(min=0)


def uniform_numbers(seeds: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """One number in [0, 1) per (seed, index), uint64 arrays: SplitMix64 of the index in the stream of the hashed seed."""
    state = _mix(seeds) + indices * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
