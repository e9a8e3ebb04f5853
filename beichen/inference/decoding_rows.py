"""Sequences that get one id each at every step, side by side: what stays the same from step to step is made once.

In: sequences whose prompts have been read, all but their last id computed. Out, at each step: ids, places and the pass over the cache.
Rule: an object serves one list of sequences; where somebody joins or leaves, a new one is made.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from beichen.inference.rotations import Rotations
from beichen.inference.sequence import Sequence
from beichen.nn.paged_cache import PagedPass, PagePool
from beichen.nn.places import Places
from beichen.nn.spans import Span


class DecodingRows:
    """The rows of one engine's decoding steps."""

    def __init__(self, sequences: Several[Sequence], rotations: Rotations, pool: PagePool, spans: tuple[Span, ...] = ()) -> None:
        """spans: which of the rows carry adapters."""
        self.sequences, self._spans = list(sequences), spans
        self._size = pool.block_size
        blocks = max(-(-one.length // pool.block_size) for one in sequences)
        tables = np.zeros((len(sequences), blocks), np.int32)  # wide enough for their whole lives
        for row, one in zip(tables, sequences, strict=True):
            row[: len(one.table)] = one.table
        pasts = np.array([one.computed for one in sequences])
        self.pages = PagedPass(pool, tables, np.ones_like(pasts), pasts)
        self._rotations = rotations.of([(one.rope, one.length) for one in sequences])

    def next(self) -> tuple[Tensor, Places]:
        """The ids to read now [sequences], and where they stand, of [1, sequences]. ``pages`` is ready for them."""
        pages = self.pages
        for number in np.flatnonzero(pages.pasts % self._size == 0).tolist():  # a block begins
            pages.tables[number, pages.pasts[number] // self._size] = self.sequences[number].table[pages.pasts[number] // self._size]
        device = pages.columns.device
        ids = torch.tensor([one.ids[-1] for one in self.sequences], device=device)
        places = self._rotations(pages.columns)
        return ids, replace(places, spans=self._spans) if self._spans else places
