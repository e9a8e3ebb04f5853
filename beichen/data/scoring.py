"""Held-out documents as rows in which every token, the first and the end token included, is scored exactly once.

The first token of a document is predicted from an end token, as in training. A document longer than a row is read through
overlapping windows: each later window gives ``sequence_length - stride`` known tokens as context and scores ``stride`` new ones. Short
documents share rows, isolated. Rule: nats summed over all rows, divided by ``num_bytes``, is a loss per byte of text that no choice of
tokenizer or row length can flatter.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from beichen.data.batch import Batch, Row, collate
from beichen.data.packing import Pieces, best_fit, lay_row
from beichen.data.store import TokenStore
from beichen.errors import DataError, SettingsError


class ScoringRows:
    """The rows of a store, or of some of its documents; small and finite, unlike training rows."""

    def __init__(self, store: TokenStore, *, sequence_length: int, stride: int | None = None, documents: np.ndarray | None = None) -> None:
        """``stride``: new tokens of each later window, by default half a row. ``documents``: numbers of those to score."""
        stride = max(1, sequence_length // 2) if stride is None else stride
        if not 1 <= stride <= sequence_length:
            raise SettingsError(f"stride {stride}: must lie between 1 and the sequence length {sequence_length}")
        chosen = np.arange(store.num_documents) if documents is None else documents
        if not len(chosen):
            raise DataError(f"{store.directory}: no held-out documents", remedy="hold out a larger share of the text")
        self.sequence_length = sequence_length
        self._store = store
        lengths = store.lengths[chosen]
        self.num_targets = int(lengths.sum())
        self.num_bytes = int(store.document_bytes[chosen].sum())
        self._start, self._length, self._unscored = _windows(lengths, sequence_length, stride)
        document = np.repeat(np.arange(len(chosen)), _window_counts(lengths, sequence_length, stride))
        self._start += store.offsets[chosen][document] - 1
        self._rows = best_fit(self._length, sequence_length, np.arange(len(self._length)))

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Row:
        """A row; behind the last stand empty ones, which fill the last batch."""
        items = self._rows[index] if index < len(self._rows) else np.zeros(0, np.int64)
        pieces = Pieces(
            stream=np.zeros(len(items), np.int32), start=self._start[items], length=self._length[items], unscored=self._unscored[items]
        )
        return lay_row(pieces, [self._store.tokens], sequence_length=self.sequence_length, pad_id=self._store.end_id)

    def num_batches(self, rows: int) -> int:
        return -(-len(self) // rows)

    def batches(self, rows: int) -> Iterator[Batch]:
        """All rows in order; every batch has the same shape."""
        for batch in range(self.num_batches(rows)):
            yield collate([self.row(batch * rows + offset) for offset in range(rows)])


def _window_counts(lengths: np.ndarray, sequence_length: int, stride: int) -> np.ndarray:
    return 1 + np.maximum(0, -(-(lengths - sequence_length) // stride))


def _windows(lengths: np.ndarray, sequence_length: int, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(start within its document, positions, leading positions that are not scored) of each window, document by document."""
    counts = _window_counts(lengths, sequence_length, stride)
    length = np.repeat(lengths, counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    end = np.minimum(sequence_length + number * stride, length)
    scored_from = np.where(number == 0, 0, sequence_length + (number - 1) * stride)
    start = np.maximum(0, end - sequence_length)
    return start, end - start, scored_from - start
