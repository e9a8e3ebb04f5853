"""Rows by number: ``PretrainingRows`` over token stores, ``DialogueRows`` over rendered dialogues, and their curriculum.

In: a global row number. Out: that ``Row``. Rule: a row follows from (seed, row number) alone: epoch by epoch everything is
shuffled anew by key, laid end to end, cut or fitted into rows, and the rows are shuffled too. So a run resumes at any row, and
neither workers nor ranks can change what it sees.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from beichen.data.batch import Row
from beichen.data.dialogue_tokens import DialogueTokens
from beichen.data.mixture import Mixture
from beichen.data.order import permutation
from beichen.data.packing import Pieces, best_fit, lay_row
from beichen.errors import DataError, SettingsError


class RowSource(Protocol):
    """Rows without end, as a pure function of their number."""

    @property
    def sequence_length(self) -> int: ...

    @property
    def rows_per_epoch(self) -> float: ...

    def row(self, index: int) -> Row: ...


@dataclass(frozen=True)
class _Epoch:
    """One shuffled pass over all documents, end to end."""

    owner: np.ndarray  # [documents] which store
    first_input: np.ndarray  # [documents] index of its first input id in the store
    begin: np.ndarray  # [documents] where it begins in the pass, in positions
    end: np.ndarray  # [documents] where it ends
    row_order: np.ndarray  # [rows]


class PretrainingRows:
    """Documents laid end to end and cut into rows: each token of an epoch is a target exactly once.

    Only the last row of an epoch is padded.
    """

    def __init__(self, mixture: Mixture, *, sequence_length: int, seed: int, isolate: bool = True) -> None:
        self.sequence_length = sequence_length
        self._mixture, self._seed, self._isolate = mixture, seed, isolate
        self._streams = [store.tokens for store in mixture.stores]
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self._first_rows = [0]  # of each epoch met so far

    @property
    def rows_per_epoch(self) -> float:
        return self._mixture.tokens_per_epoch / self.sequence_length

    def row(self, index: int) -> Row:
        number, within = self._locate(index)
        epoch = self._epoch(number)
        begin = int(epoch.row_order[within]) * self.sequence_length
        end = min(begin + self.sequence_length, int(epoch.end[-1]))
        first, last = np.searchsorted(epoch.end, (begin, end - 1), side="right")
        inside = slice(first, last + 1)  # the documents that this row meets
        start, stop = np.maximum(epoch.begin[inside], begin), np.minimum(epoch.end[inside], end)
        pieces = Pieces(stream=epoch.owner[inside], start=epoch.first_input[inside] + start - epoch.begin[inside], length=stop - start)
        return lay_row(
            pieces, self._streams, sequence_length=self.sequence_length, pad_id=self._mixture.stores[0].end_id, isolate=self._isolate
        )

    def _locate(self, index: int) -> tuple[int, int]:
        """(epoch, place in its shuffled rows) of a global row number."""
        if self._mixture.is_steady:
            return divmod(index, len(self._epoch(0).row_order))
        while self._first_rows[-1] <= index:
            self._first_rows.append(self._first_rows[-1] + len(self._epoch(len(self._first_rows) - 1).row_order))
        number = bisect.bisect_right(self._first_rows, index) - 1
        return number, index - self._first_rows[number]

    def _make_epoch(self, number: int) -> _Epoch:
        owner, document = self._mixture.epoch(self._seed, number)
        first_input, length = np.empty(len(owner), np.int64), np.empty(len(owner), np.int64)
        for which, store in enumerate(self._mixture.stores):
            here = owner == which
            offsets = np.asarray(store.offsets)
            first_input[here] = offsets[document[here]] - 1  # the end token before the document
            length[here] = np.diff(offsets)[document[here]]
        end = np.cumsum(length)
        rows = -(-int(end[-1]) // self.sequence_length)
        return _Epoch(owner, first_input, end - length, end, permutation(self._seed, "rows", number, rows))


class DialogueRows:
    """Whole dialogues fitted into rows, packed anew in each epoch; the rest of a row is padding."""

    def __init__(self, dialogues: DialogueTokens, *, sequence_length: int, seed: int, isolate: bool = True) -> None:
        if not len(dialogues):
            raise DataError(
                "no dialogue with a scored token is left", remedy="give dialogues with answers that fit into the sequence length"
            )
        self.sequence_length = sequence_length
        self._dialogues, self._seed, self._isolate = dialogues, seed, isolate
        self._lengths = dialogues.lengths - 1  # positions: each but the last id is an input
        if self._lengths.max() > sequence_length:
            raise SettingsError(f"a dialogue of {self._lengths.max()} positions was collected for longer rows than {sequence_length}")
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self._first_rows = [0]

    @property
    def rows_per_epoch(self) -> float:
        return float(len(self._epoch(0)))

    @property
    def packing_efficiency(self) -> float:
        """Share of the first epoch's positions that hold a token."""
        return float(self._lengths.sum()) / (len(self._epoch(0)) * self.sequence_length)

    def row(self, index: int) -> Row:
        while self._first_rows[-1] <= index:
            self._first_rows.append(self._first_rows[-1] + len(self._epoch(len(self._first_rows) - 1)))
        number = bisect.bisect_right(self._first_rows, index) - 1
        items = self._epoch(number)[index - self._first_rows[number]]
        pieces = Pieces(stream=np.zeros(len(items), np.int32), start=self._dialogues.offsets[items], length=self._lengths[items])
        return lay_row(
            pieces,
            [self._dialogues.ids],
            sequence_length=self.sequence_length,
            pad_id=self._dialogues.pad_id,
            isolate=self._isolate,
            scored=[self._dialogues.scored],
        )

    def _make_epoch(self, number: int) -> list[np.ndarray]:
        rows = best_fit(self._lengths, self.sequence_length, permutation(self._seed, "dialogues", number, len(self._lengths)))
        return [rows[place] for place in permutation(self._seed, "rows", number, len(rows))]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of a curriculum: for so many rows, the share of each source. The last phase goes on without end."""

    rows: int
    shares: tuple[float, ...]


class CurriculumRows:
    """Rows of several sources, interleaved evenly by shares that change from phase to phase; each source goes on where it was."""

    def __init__(self, sources: Sequence[RowSource], phases: Sequence[Phase]) -> None:
        lengths = {source.sequence_length for source in sources}
        if len(lengths) != 1:
            raise SettingsError(f"the sources of a curriculum have rows of different lengths: {sorted(lengths)}")
        for phase in phases:
            if len(phase.shares) != len(sources) or min(phase.shares) < 0 or sum(phase.shares) <= 0 or phase.rows < 1:
                raise SettingsError(
                    f"curriculum phase {phase}: needs rows above 0 and one share, 0 or more, for each of {len(sources)} sources"
                )
        if not phases:
            raise SettingsError("a curriculum needs at least one phase")
        self.sequence_length = lengths.pop()
        self._sources, self._phases = list(sources), list(phases)
        self._chosen: list[tuple[int, int]] = []  # (source, its row) of each row so far
        self._counts = [0] * len(sources)
        self._debts = np.zeros(len(sources))  # rows that a source should have had and has not

    @property
    def rows_per_epoch(self) -> float:
        """Rows of all sources together."""
        return sum(source.rows_per_epoch for source in self._sources)

    def row(self, index: int) -> Row:
        while len(self._chosen) <= index:
            self._choose()
        source, row = self._chosen[index]
        return self._sources[source].row(row)

    def _choose(self) -> None:
        number, behind = len(self._chosen), 0
        for phase in self._phases:
            behind += phase.rows
            if number < behind:
                break
        shares = np.asarray(phase.shares) / sum(phase.shares)
        if number in (0, behind - phase.rows):
            self._debts[:] = 0.0  # a phase owes nothing to the one before
        self._debts += shares
        source = int(np.argmax(np.where(shares > 0, self._debts, -np.inf)))
        self._debts[source] -= 1
        self._chosen.append((source, self._counts[source]))
        self._counts[source] += 1
