"""The convention of rows, written a second time, token by token."""

from __future__ import annotations

import numpy as np

from beichen.data.batch import IGNORED, Row

Position = tuple[int, int]  # input id, target


def document_positions(tokens: list[int], end: int) -> list[Position]:
    """``tokens`` without an end token: input [end, t1..tn], targets [t1..tn, end]."""
    return list(zip([end, *tokens], [*tokens, end], strict=True))


def dialogue_positions(ids: list[int], mask: list[int]) -> list[Position]:
    return [(ids[place], ids[place + 1] if mask[place + 1] else IGNORED) for place in range(len(ids) - 1)]


def slow_row(parts: list[list[Position]], sequence_length: int, pad: int, isolate: bool = True) -> Row:
    rows: list[tuple[int, int, int, int]] = []
    for part in parts:
        begin = len(rows)
        for place, (token, target) in enumerate(part):
            rows.append((token, target, place if isolate else len(rows), begin if isolate else 0))
    used = len(rows)
    while len(rows) < sequence_length:
        rows.append((pad, IGNORED, 0, len(rows)))
    columns = np.array(rows, np.int32).T
    return Row(input_ids=columns[0], targets=columns[1], positions=columns[2], first_visible=columns[3], token_count=used)


def assert_same_row(left: Row, right: Row) -> None:
    for name in ("input_ids", "targets", "positions", "first_visible"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    assert left.token_count == right.token_count


def split_row(row: Row) -> list[list[Position]]:
    """The parts of an isolated row, padding left out."""
    parts: dict[int, list[Position]] = {}
    for column in range(row.token_count):
        parts.setdefault(int(row.first_visible[column]), []).append((int(row.input_ids[column]), int(row.targets[column])))
    return list(parts.values())
