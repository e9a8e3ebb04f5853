"""Parquet tables: each row a ``Record``, its columns the keys.

In: a file, and the columns that are wanted, of which at least one must exist. Out: rows in order, a batch at a time. Called by
``records.read_records`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from beichen.data.files import COMPRESSIONS
from beichen.data.records import Record
from beichen.errors import DataError, MissingExtraError, nearest


def read_parquet(
    file: Path, columns: Sequence[str] | None, optional_columns: Sequence[str], consumed: Callable[[int], None] | None
) -> Iterator[Record]:
    """Rows of the table; ``columns=None``: with all that it has."""
    if file.suffix.lower() in COMPRESSIONS:
        raise DataError(f"{file}: a parquet file is compressed inside and cannot be read through {file.suffix}", remedy="unpack it first")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="parquet", purpose=f"reading {file}") from error
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            chosen = [name for name in columns if name in names] if columns is not None else names
            if not chosen:
                raise DataError(
                    f"{file}: no column {' or '.join(repr(name) for name in columns or ())}{nearest((columns or ('',))[0], names)}",
                    remedy=f"name the column that holds the text; the file has: {', '.join(names)}",
                )
            size = file.stat().st_size
            for batch in table.iter_batches(batch_size=256, columns=[*chosen, *(name for name in optional_columns if name in names)]):
                for value in batch.to_pylist():
                    number += 1
                    yield Record(
                        value, str(file), number, len(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace"))
                    )
                if consumed is not None:
                    consumed(size * batch.num_rows // max(1, table.metadata.num_rows))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read as parquet after row {number}: {error}", remedy="fetch or write the file again") from error
