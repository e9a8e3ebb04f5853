"""``Mixture``: several token stores with weights; which documents an epoch holds, and in which order.

A weight counts epochs, as in TeleChat's weight files: 2.0 takes every document twice in one epoch of the mixture, 0.5 a
random half. Halves are taken without replacement: the next epoch takes the other half, then the pool is shuffled anew.
Rule: what an epoch holds follows from (seed, epoch) alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from beichen.data.order import permutation
from beichen.data.store import TokenStore
from beichen.errors import DataError, SettingsError


class Mixture:
    """Stores of one tokenizer and their weights."""

    def __init__(self, stores: Sequence[TokenStore], weights: Sequence[float] | None = None) -> None:
        self.stores = list(stores)
        self.weights = [1.0] * len(self.stores) if weights is None else list(weights)
        if not self.stores or len(self.weights) != len(self.stores):
            raise SettingsError(f"a mixture of {len(self.stores)} sources got {len(self.weights)} weights: give one weight for each source")
        for store, weight in zip(self.stores, self.weights, strict=True):
            if not (math.isfinite(weight) and weight > 0):
                raise SettingsError(f"{store.directory}: weight {weight}: must be above 0", remedy="leave the source out instead")
            if store.metadata["tokenizer"] != self.stores[0].metadata["tokenizer"]:
                raise DataError(
                    f"{store.directory} and {self.stores[0].directory} were encoded by different tokenizers",
                    remedy="encode both with the same tokenizer",
                )
            if not store.num_documents:
                raise DataError(f"{store.directory}: holds no documents", remedy="leave the source out")

    @property
    def is_steady(self) -> bool:
        """Whether every epoch holds the same documents (all weights whole)."""
        return all(float(weight).is_integer() for weight in self.weights)

    @property
    def tokens_per_epoch(self) -> float:
        """Expected tokens of one epoch of the mixture."""
        return sum(store.num_tokens * weight for store, weight in zip(self.stores, self.weights, strict=True))

    def epoch(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(store number, document number) of each document of an epoch, shuffled. [documents] int32, int64"""
        parts = [self._documents(number, seed, epoch) for number in range(len(self.stores))]
        owner = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
        order = permutation(seed, "documents", epoch, len(owner))
        return owner[order], np.concatenate(parts)[order]

    def _documents(self, number: int, seed: int, epoch: int) -> np.ndarray:
        count, weight = self.stores[number].num_documents, self.weights[number]
        whole = math.floor(weight)
        first, last = math.floor(epoch * (weight - whole) * count), math.floor((epoch + 1) * (weight - whole) * count)
        slots = np.arange(first, last)
        drawn = np.empty(len(slots), np.int64)
        for lap in np.unique(slots // count):
            here = slots // count == lap
            drawn[here] = permutation(seed, f"share of source {number}", int(lap), count)[slots[here] % count]
        return np.concatenate((np.tile(np.arange(count, dtype=np.int64), whole), drawn))
