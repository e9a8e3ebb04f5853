"""``HeldOutDialogues``: the dialogues that are only evaluated, in rows of their own, each once.

In: rendered dialogues and the numbers of those held out. Out: batches in order. What is scored is what training would learn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from beichen.data.batch import Batch, Row, collate
from beichen.data.dialogue_tokens import DialogueTokens
from beichen.data.packing import Pieces, best_fit, lay_row


class HeldOutDialogues:
    """Like ``scoring.ScoringRows``; their bytes are not counted, since a template stands between the text and the ids."""

    num_bytes = None

    def __init__(self, dialogues: DialogueTokens, items: np.ndarray, *, sequence_length: int) -> None:
        """items: numbers of the held-out ones among ``dialogues``."""
        self._dialogues, self._sequence_length = dialogues, sequence_length
        self._lengths = dialogues.lengths - 1  # positions: each but the last id is an input
        self._rows = best_fit(self._lengths, sequence_length, items)

    def num_batches(self, rows: int) -> int:
        return -(-len(self._rows) // rows)

    def batches(self, rows: int) -> Iterator[Batch]:
        """All rows in order; every batch has the same shape."""
        for batch in range(self.num_batches(rows)):
            yield collate([self._row(batch * rows + offset) for offset in range(rows)])

    def _row(self, index: int) -> Row:
        """A row; behind the last stand empty ones, which fill the last batch."""
        items = self._rows[index] if index < len(self._rows) else np.zeros(0, np.int64)
        pieces = Pieces(stream=np.zeros(len(items), np.int32), start=self._dialogues.offsets[items], length=self._lengths[items])
        return lay_row(
            pieces, [self._dialogues.ids], sequence_length=self._sequence_length, pad_id=self._dialogues.pad_id,
            scored=[self._dialogues.scored],
        )  # fmt: skip
