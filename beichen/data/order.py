"""Orders that are drawn by key: the same (seed, purpose, number) gives the same permutation on every machine and in every process."""

from __future__ import annotations

import numpy as np

from beichen.util.random import keyed_generator


def permutation(seed: int, purpose: str, index: int, count: int) -> np.ndarray:
    """The numbers 0 to ``count - 1`` in keyed random order. [count] int64"""
    return keyed_generator(seed, purpose, index).permutation(count)
