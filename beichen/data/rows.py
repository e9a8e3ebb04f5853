"""Rows by number: ``PretrainingRows`` over token stores, ``DialogueRows`` over rendered dialogues.

In: a global row number. Out: that ``Row``. Rule: a row follows from (seed, row number) alone: epoch by epoch everything is
shuffled anew by key, laid end to end, cut or fitted into rows, and the rows are shuffled too. So a run resumes at any row, and
neither workers nor ranks can change what it sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from beichen.data.batch import Row
from beichen.data.dialogue_tokens import DialogueTokens
from beichen.data.left_out import remedy_for_nothing
from beichen.data.mixture import Mixture
from beichen.data.order import Epochs, permutation
from beichen.data.packing import Pieces, best_fit, lay_row
from beichen.data.pool import Part, Pool
from beichen.errors import DataError, SettingsError


class RowSource(Protocol):
    """Rows without end, as a pure function of their number."""

    @property
    def sequence_length(self) -> int: ...

    @property
    def rows_per_epoch(self) -> float: ...

    def row(self, index: int) -> Row: ...

    def locate(self, index: int) -> tuple[int, int]:
        """(epoch, place among its rows) of a row."""

    def samples(self, index: int) -> list[str]:
        """What stands in a row, for people: each document by source and number, from 0."""


@dataclass(frozen=True)
class _Epoch:
    """One shuffled pass over all documents, end to end."""

    owner: np.ndarray  # [documents] which store
    item: np.ndarray  # [documents] its number there
    first_input: np.ndarray  # [documents] index of its first input id in the store
    begin: np.ndarray  # [documents] where it begins in the pass, in positions
    end: np.ndarray  # [documents] where it ends
    row_order: np.ndarray  # [rows]

    def __len__(self) -> int:
        return len(self.row_order)


class PretrainingRows:
    """Documents laid end to end and cut into rows: each token of an epoch is a target exactly once.

    Only the last row of an epoch is padded.
    """

    def __init__(self, mixture: Mixture, *, sequence_length: int, seed: int, isolate: bool = True) -> None:
        self.sequence_length = sequence_length
        self._mixture, self._seed, self._isolate = mixture, seed, isolate
        self._streams = [store.tokens for store in mixture.stores]
        self._epochs = Epochs(self._make_epoch, steady=mixture.is_steady)

    @property
    def rows_per_epoch(self) -> float:
        return self._mixture.tokens_per_epoch / self.sequence_length

    def row(self, index: int) -> Row:
        epoch, inside, begin, end = self._stretch(index)
        start, stop = np.maximum(epoch.begin[inside], begin), np.minimum(epoch.end[inside], end)
        pieces = Pieces(stream=epoch.owner[inside], start=epoch.first_input[inside] + start - epoch.begin[inside], length=stop - start)
        return lay_row(
            pieces, self._streams, sequence_length=self.sequence_length, pad_id=self._mixture.stores[0].end_id, isolate=self._isolate
        )

    def locate(self, index: int) -> tuple[int, int]:
        return self._epochs.locate(index)

    def samples(self, index: int) -> list[str]:
        epoch, inside, _, _ = self._stretch(index)
        names = [self._mixture.stores[owner].directory.name for owner in epoch.owner[inside]]
        return [f"{name} document {item}" for name, item in zip(names, epoch.item[inside].tolist(), strict=True)]

    def _stretch(self, index: int) -> tuple[_Epoch, slice, int, int]:
        """A row as a part of its epoch: which documents it meets, its first position and the one behind its last."""
        number, within = self.locate(index)
        epoch = self._epochs[number]
        begin = int(epoch.row_order[within]) * self.sequence_length
        end = min(begin + self.sequence_length, int(epoch.end[-1]))
        first, last = np.searchsorted(epoch.end, (begin, end - 1), side="right")
        return epoch, slice(first, last + 1), begin, end

    def _make_epoch(self, number: int) -> _Epoch:
        drawn = self._mixture.epoch(number)
        owner, length = drawn.source, drawn.length
        first_input = np.empty(len(drawn), np.int64)
        for which, store in enumerate(self._mixture.stores):
            here = owner == which
            first_input[here] = np.asarray(store.offsets)[drawn.item[here]] - 1  # the end token before the document
        end = np.cumsum(length)
        rows = -(-int(end[-1]) // self.sequence_length)
        return _Epoch(owner, drawn.item, first_input, end - length, end, permutation(self._seed, "rows", number, rows))


class DialogueRows:
    """Whole dialogues fitted into rows, packed anew in each epoch; the rest of a row is padding."""

    def __init__(
        self, dialogues: DialogueTokens, *, sequence_length: int, seed: int, isolate: bool = True, pool: Pool | None = None
    ) -> None:  # fmt: skip
        """``pool``: which dialogues an epoch holds, by number; ``None``: each once."""
        if not len(dialogues):
            raise DataError(
                f"no dialogue with a scored token is left: {dialogues.account.as_text()}",
                remedy=remedy_for_nothing(dialogues.account, sequence_length=sequence_length),
            )
        self.sequence_length = sequence_length
        self._dialogues, self._seed, self._isolate = dialogues, seed, isolate
        self._lengths = dialogues.lengths - 1  # positions: each but the last id is an input
        if self._lengths.max() > sequence_length:
            raise SettingsError(f"a dialogue of {self._lengths.max()} positions was collected for longer rows than {sequence_length}")
        everything = Part(name="dialogues", source=0, items=np.arange(len(dialogues)), lengths=self._lengths)
        self._pool = Pool(parts=[everything], weights=[1.0], seed=seed) if pool is None else pool
        self._epochs = Epochs(self._make_epoch, steady=False)

    @property
    def rows_per_epoch(self) -> float:
        return float(len(self._epochs[0]))

    @property
    def packing_efficiency(self) -> float:
        """Share of the first epoch's positions that hold a token."""
        rows = self._epochs[0]
        return sum(int(self._lengths[items].sum()) for items in rows) / (len(rows) * self.sequence_length)

    def row(self, index: int) -> Row:
        number, within = self.locate(index)
        items = self._epochs[number][within]
        pieces = Pieces(stream=np.zeros(len(items), np.int32), start=self._dialogues.offsets[items], length=self._lengths[items])
        return lay_row(
            pieces,
            [self._dialogues.ids],
            sequence_length=self.sequence_length,
            pad_id=self._dialogues.pad_id,
            isolate=self._isolate,
            scored=[self._dialogues.scored],
            weights=None if self._dialogues.weights is None else [self._dialogues.weights],
        )

    def locate(self, index: int) -> tuple[int, int]:
        return self._epochs.locate(index)

    def samples(self, index: int) -> list[str]:
        number, within = self.locate(index)
        return [f"dialogue {number}" for number in self._dialogues.numbers[self._epochs[number][within]].tolist()]

    def _make_epoch(self, number: int) -> list[np.ndarray]:
        rows = best_fit(self._lengths, self.sequence_length, self._pool.draw(number).item)
        return [rows[place] for place in permutation(self._seed, "rows", number, len(rows))]
