"""``Loader``: the micro-batches of a training step, as a pure function of the step's number; ``Stages``: loaders one after another.

In: a row source. Out: batches. Step s takes rows ``s * rows_per_step`` onwards, whatever ran before and however many processes share
them or threads ask, so a run's only reading state is its step number. The training loop reads ahead in a thread of its own.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from beichen.data.batch import Batch, Row, collate
from beichen.data.packing import Pieces, lay_row
from beichen.data.rows import RowSource
from beichen.errors import SettingsError


class Loader:
    """Batches of ``rows_per_micro_batch`` rows; process ``rank`` of ``world_size`` takes its share of each micro-batch's rows."""

    def __init__(
        self, source: RowSource, *, rows_per_step: int, rows_per_micro_batch: int, rank: int = 0, world_size: int = 1,
        num_rows: int | None = None,
    ) -> None:  # fmt: skip
        """Rows are counted over all processes. ``num_rows``: so many and no more; what the last step lacks is filled with empty rows."""
        if rows_per_step % rows_per_micro_batch:
            raise SettingsError(f"rows_per_step={rows_per_step} is not a multiple of rows_per_micro_batch={rows_per_micro_batch}")
        if rows_per_micro_batch % world_size:
            raise SettingsError(f"rows_per_micro_batch={rows_per_micro_batch} is not a multiple of the {world_size} processes")
        self._source, self._num_rows = source, num_rows
        self._rows_per_step, self._rows_per_micro_batch = rows_per_step, rows_per_micro_batch
        self._share = rows_per_micro_batch // world_size
        self._offset = rank * self._share

    @property
    def steps(self) -> int | None:
        """Steps until the last row; ``None``: without end."""
        return None if self._num_rows is None else -(-self._num_rows // self._rows_per_step)

    @property
    def steps_per_epoch(self) -> float:
        return self._source.rows_per_epoch / self._rows_per_step

    def micro_batches(self, step: int) -> list[Batch]:
        """This process's batches of one optimizer step; none behind the last."""
        return [collate([self._row(index) for index in rows]) for rows in self._rows_of(step)]

    def samples(self, step: int) -> list[list[str]]:
        """What stands in each of these batches, for people."""
        return [[name for index in rows if self._exists(index) for name in self._source.samples(index)] for rows in self._rows_of(step)]

    def _rows_of(self, step: int) -> list[range]:
        """The rows of each of this process's batches."""
        begin, end = step * self._rows_per_step, (step + 1) * self._rows_per_step
        end = end if self._num_rows is None else min(end, self._num_rows)
        firsts = range(begin + self._offset, end + self._offset, self._rows_per_micro_batch)
        return [range(first, first + self._share) for first in firsts]

    def _exists(self, index: int) -> bool:
        return self._num_rows is None or index < self._num_rows

    def _row(self, index: int) -> Row:
        if self._exists(index):
            return self._source.row(index)
        return lay_row(_NOTHING, [np.zeros(1, np.int32)], sequence_length=self._source.sequence_length, pad_id=0)


class Stages:
    """Loaders one after another, each but the last with an end: step s belongs to the first whose steps reach beyond it."""

    def __init__(self, loaders: Sequence[Loader]) -> None:
        self.loaders, self._begins = list(loaders), [0]
        for loader in self.loaders[:-1]:
            if loader.steps is None:
                raise SettingsError("only the last of several stages may be without end")
            self._begins.append(self._begins[-1] + loader.steps)

    @property
    def steps(self) -> int | None:
        last = self.loaders[-1].steps
        return None if last is None else self._begins[-1] + last

    @property
    def steps_per_epoch(self) -> float:
        """Of a single stage, its own; several are one epoch together."""
        return self.loaders[0].steps_per_epoch if len(self.loaders) == 1 else float(self.steps or np.inf)

    def place(self, step: int) -> tuple[int, int]:
        """(stage, its own step) of a step of the whole."""
        stage = bisect.bisect_right(self._begins, step) - 1
        return stage, step - self._begins[stage]

    def micro_batches(self, step: int) -> list[Batch]:
        stage, own = self.place(step)
        return self.loaders[stage].micro_batches(own)

    def samples(self, step: int) -> list[list[str]]:
        stage, own = self.place(step)
        return self.loaders[stage].samples(own)


_NONE = np.zeros(0, np.int64)
_NOTHING = Pieces(stream=_NONE, start=_NONE, length=_NONE)
