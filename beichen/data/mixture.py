"""``Mixture``: several token stores with weights; which documents a pass holds, and in which order (see ``pool``).

A weight counts epochs, as in TeleChat's weight files: 2.0 takes every document twice in one epoch of the mixture, 0.5 a
random half, and the next epoch the other half. ``epochs_of_shares`` turns shares of the tokens into such weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beichen.data.pool import Part, Pass, Pool
from beichen.data.store import TokenStore
from beichen.errors import DataError, SettingsError


class Mixture:
    """Stores of one tokenizer, and the pool of their documents."""

    def __init__(self, stores: Sequence[TokenStore], weights: Sequence[float] | None = None, *, seed: int = 0) -> None:
        weights = [1.0] * len(stores) if weights is None else weights
        if not stores or len(weights) != len(stores):
            raise SettingsError(f"a mixture of {len(stores)} sources got {len(weights)} weights: give one weight for each source")
        check_stores(stores)
        parts = [part_of(store, number) for number, store in enumerate(stores)]
        self.stores, self.pool = list(stores), Pool(parts=parts, weights=weights, seed=seed)

    @classmethod
    def of_pool(cls, stores: Sequence[TokenStore], pool: Pool) -> Mixture:
        """The stores with a pool of some of their documents."""
        mixture = cls.__new__(cls)
        mixture.stores, mixture.pool = list(stores), pool
        return mixture

    @property
    def is_steady(self) -> bool:
        """Whether every epoch holds the same documents."""
        return self.pool.is_steady

    @property
    def tokens_per_epoch(self) -> float:
        """Expected tokens of one epoch of the mixture."""
        return self.pool.tokens_per_pass

    def epoch(self, number: int) -> Pass:
        """The documents of an epoch, in order."""
        return self.pool.draw(number)


def check_stores(stores: Sequence[TokenStore]) -> None:
    """Refuses stores that cannot stand in one mixture."""
    for store in stores:
        if store.metadata["tokenizer"] != stores[0].metadata["tokenizer"]:
            raise DataError(
                f"{store.directory} and {stores[0].directory} were encoded by different tokenizers",
                remedy="encode both with the same tokenizer",
            )
        if not store.num_documents:
            raise DataError(f"{store.directory}: holds no documents", remedy="leave the source out")


def part_of(store: TokenStore, source: int, *, chosen: np.ndarray | None = None, name: str | None = None) -> Part:
    """All documents of a store, or those chosen by number."""
    items = np.arange(store.num_documents) if chosen is None else chosen
    return Part(name=name or f"source {source}", source=source, items=items, lengths=store.lengths[items])


def epochs_of_shares(tokens: Sequence[int], shares: Sequence[float]) -> list[float]:
    """Weights in epochs with which each source gives its share of all tokens; one epoch of the mixture is as long as all sources."""
    whole, total = sum(tokens), sum(shares)
    return [share / total * whole / count for share, count in zip(shares, tokens, strict=True)]
