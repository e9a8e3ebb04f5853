"""Runs of ids to rows: what stands in which column, what is scored, and what each position sees.

The convention of all rows, for training and evaluation alike: a document t1..tn is laid as input ``[end, t1..tn]`` with
targets ``[t1..tn, end]``. So every token and the end token are scored, the first one from an end token, just as generation
begins. A document that goes on in the next row begins there with its last token as input: nothing is left unscored. A
dialogue of ids d0..dn is input ``[d0..dn-1]`` with targets ``[d1..dn]``, scored where the loss mask of the *target* is set.

Positions restart with each run, and ``first_visible`` keeps a run from seeing its neighbours, unless isolation is off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beichen.data.batch import IGNORED, Row


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Runs of positions that stand side by side in one row. All arrays [pieces]."""

    stream: np.ndarray  # which of the id arrays the piece is cut from
    start: np.ndarray  # index of the piece's first input id there; its first target is the next id
    length: np.ndarray  # positions
    unscored: np.ndarray | None = None  # positions at the piece's start that only give context; None: 0 everywhere


def lay_row(
    pieces: Pieces,
    streams: Sequence[np.ndarray],
    *,
    sequence_length: int,
    pad_id: int,
    isolate: bool = True,
    scored: Sequence[np.ndarray] | None = None,
    weights: Sequence[np.ndarray] | None = None,
) -> Row:
    """The pieces in one row of ``sequence_length`` columns, the rest padded at its end.

    ``scored``: for each stream, whether an id may be a target; ``weights``: what it then counts. A padded column sees only itself and
    scores nothing.
    """
    length = pieces.length
    used = int(length.sum())
    column = np.cumsum(length) - length  # first column of each piece
    columns = np.arange(sequence_length, dtype=np.int32)
    first = np.repeat(column, length).astype(np.int32)
    within = columns[:used] - first
    index = np.repeat(pieces.start, length) + within

    input_ids = np.full(sequence_length, pad_id, np.int32)
    targets = np.full(sequence_length, IGNORED, np.int32)
    positions = np.zeros(sequence_length, np.int32)
    first_visible = columns.copy()
    owner = None if len(streams) == 1 else np.repeat(pieces.stream, length)
    input_ids[:used] = _gather(streams, owner, index)
    targets[:used] = _gather(streams, owner, index + 1)
    if scored is not None:
        targets[:used][~_gather(scored, owner, index + 1)] = IGNORED
    if pieces.unscored is not None:
        targets[:used][within < np.repeat(pieces.unscored, length)] = IGNORED
    if isolate:
        positions[:used] = within
        first_visible[:used] = first
    else:
        positions[:used] = columns[:used]
        first_visible[:used] = 0
    counts = None if weights is None else np.zeros(sequence_length, np.float32)
    if counts is not None and weights is not None:
        counts[:used] = _gather(weights, owner, index + 1)
    return Row(
        input_ids=input_ids, targets=targets, positions=positions, first_visible=first_visible, token_count=used, weights=counts
    )  # fmt: skip


def _gather(streams: Sequence[np.ndarray], owner: np.ndarray | None, index: np.ndarray) -> np.ndarray:
    """``streams[owner[i]][index[i]]`` for each i; ``owner`` None: there is but one."""
    if owner is None:
        return streams[0][index]
    found = np.empty(len(index), streams[int(owner[0])].dtype if len(owner) else np.int32)
    for number in np.unique(owner):
        here = np.flatnonzero(owner == number)
        found[here] = streams[number][index[here]]
    return found


def best_fit(lengths: np.ndarray, capacity: int, order: np.ndarray) -> list[np.ndarray]:
    """Items (by number) of each row: none is split, each row holds at most ``capacity``.

    Items longer than an eighth of a row go first, longest first; the others follow in the given order, so that rows stay mixed.
    Each goes to the fullest row in which it fits, in constant time: rows are kept by free space, and a bit mask says which
    free spaces exist.
    """
    ordered = lengths[order]
    large = ordered * 8 > capacity
    queue = np.concatenate((order[large][np.argsort(-ordered[large], kind="stable")], order[~large]))
    rows: list[list[int]] = []
    by_space: list[list[int]] = [[] for _ in range(capacity + 1)]
    spaces = 0  # bit s is set when a row with s free columns exists
    for item, length in zip(queue.tolist(), lengths[queue].tolist(), strict=True):
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = by_space[space].pop()
            if not by_space[space]:
                spaces ^= 1 << space
        else:
            space, row = capacity, len(rows)
            rows.append([])
        rows[row].append(item)
        space -= length
        if space:
            by_space[space].append(row)
            spaces |= 1 << space
    return [np.array(row, np.int64) for row in rows]
