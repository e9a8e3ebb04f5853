"""Rows of preferences: ``PreferenceRows`` to train on, ``document_row`` to score any documents.

Every document stands by itself, isolated from its neighbours; the two of a pair always stand in one row, so no batch can part them. Rule:
a row follows from (seed, row number) alone.
"""

from __future__ import annotations

import numpy as np

from beichen.data.batch import Row, RowDocuments
from beichen.data.order import Epochs, permutation
from beichen.data.packing import Pieces, best_fit, lay_row
from beichen.data.pool import Pool
from beichen.data.preference_tokens import PreferenceTokens
from beichen.errors import SettingsError


class PreferenceRows:
    """Whole pairs, or rated dialogues, fitted into rows, packed anew in each epoch; the rest of a row is padding."""

    def __init__(self, tokens: PreferenceTokens, *, sequence_length: int, seed: int, pool: Pool) -> None:
        """``pool``: which units an epoch holds, by number."""
        self.sequence_length = sequence_length
        self._tokens, self._seed, self._pool = tokens, seed, pool
        self._lengths = tokens.unit_positions
        if self._lengths.max() > sequence_length:
            raise SettingsError(f"preferences of {self._lengths.max()} positions were collected for longer rows than {sequence_length}")
        self._epochs = Epochs(self._make_epoch, steady=False)

    @property
    def rows_per_epoch(self) -> float:
        return float(len(self._epochs[0]))

    def row(self, index: int) -> Row:
        units, tokens = self._units(index), self._tokens
        if tokens.good is None:
            documents = np.stack((2 * units, 2 * units + 1), axis=1).ravel()
            return document_row(tokens, documents, sequence_length=self.sequence_length, units=len(units))
        mismatched = document_row(tokens, 2 * units + 1, sequence_length=self.sequence_length)
        return document_row(tokens, 2 * units, sequence_length=self.sequence_length, units=len(units), mismatched=mismatched)

    def locate(self, index: int) -> tuple[int, int]:
        return self._epochs.locate(index)

    def samples(self, index: int) -> list[str]:
        return [self._tokens.origins[unit] for unit in self._units(index).tolist()]

    def _units(self, index: int) -> np.ndarray:
        number, within = self.locate(index)
        return self._epochs[number][within]

    def _make_epoch(self, number: int) -> list[np.ndarray]:
        rows = best_fit(self._lengths, self.sequence_length, self._pool.draw(number).item)
        return [rows[place] for place in permutation(self._seed, "rows", number, len(rows))]


def document_row(
    tokens: PreferenceTokens, documents: np.ndarray, *, sequence_length: int, units: int = 0, mismatched: Row | None = None
) -> Row:  # fmt: skip
    """These documents side by side. The targets of each unit count 1 together, in whatever asks what they count."""
    lengths = tokens.positions[documents]
    pieces = Pieces(stream=np.zeros(len(documents), np.int32), start=tokens.offsets[documents], length=lengths)
    row = lay_row(pieces, [tokens.ids], sequence_length=sequence_length, pad_id=tokens.pad_id, scored=[tokens.scored])
    place = np.full(sequence_length, len(documents), np.int32)
    place[: row.token_count] = np.repeat(np.arange(len(documents)), lengths)
    weights = np.zeros(sequence_length, np.float32)
    weights[: row.token_count] = np.repeat(units / len(documents) / tokens.targets[documents], lengths)
    good = None if tokens.good is None else tokens.good[documents // 2]
    held = RowDocuments(place=place, number=documents, units=units, good=good, mismatched=mismatched)
    return Row(
        input_ids=row.input_ids, targets=row.targets, positions=row.positions, first_visible=row.first_visible,
        token_count=row.token_count, weights=weights, documents=held,
    )  # fmt: skip


def pack_documents(tokens: PreferenceTokens, documents: np.ndarray, *, sequence_length: int) -> list[np.ndarray]:
    """The documents of each row that scores all of them once."""
    lengths = tokens.positions[documents]
    return [documents[row] for row in best_fit(lengths, sequence_length, np.arange(len(documents)))]
