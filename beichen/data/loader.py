"""``Loader``: the micro-batches of a training step, as a pure function of the step's number.

In: a row source. Out: batches. Step s takes rows ``s * rows_per_step`` onwards, whatever ran before and however many processes share
them, so a run's only reading state is its step number. The training loop reads one step ahead in a thread of its own.
"""

from __future__ import annotations

from beichen.data.batch import Batch, collate
from beichen.data.rows import RowSource
from beichen.errors import SettingsError


class Loader:
    """Batches of ``rows_per_micro_batch`` rows; process ``rank`` of ``world_size`` takes its share of each micro-batch's rows."""

    def __init__(self, source: RowSource, *, rows_per_step: int, rows_per_micro_batch: int, rank: int = 0, world_size: int = 1) -> None:
        """Rows are counted over all processes."""
        if rows_per_step % rows_per_micro_batch:
            raise SettingsError(f"rows_per_step={rows_per_step} is not a multiple of rows_per_micro_batch={rows_per_micro_batch}")
        if rows_per_micro_batch % world_size:
            raise SettingsError(f"rows_per_micro_batch={rows_per_micro_batch} is not a multiple of the {world_size} processes")
        self._source = source
        self._rows_per_step, self._rows_per_micro_batch = rows_per_step, rows_per_micro_batch
        self._share = rows_per_micro_batch // world_size
        self._offset = rank * self._share

    @property
    def steps_per_epoch(self) -> float:
        return self._source.rows_per_epoch / self._rows_per_step

    def micro_batches(self, step: int) -> list[Batch]:
        """This process's batches of one optimizer step."""
        begin = step * self._rows_per_step
        return [
            collate([self._source.row(first + self._offset + row) for row in range(self._share)])
            for first in range(begin, begin + self._rows_per_step, self._rows_per_micro_batch)
        ]
