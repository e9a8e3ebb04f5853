"""Laws of laying: the fast row equals the slow one, and fitting neither splits, loses nor overfills."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.data.packing import Pieces, best_fit, lay_row
from tests.data.slow_rows import assert_same_row, slow_row


@settings(max_examples=150, deadline=None)
@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_fast_row_equals_slow_row(data: st.DataObject, isolate: bool, masked: bool, with_context: bool) -> None:
    streams = [np.arange(100 * number, 100 * number + 40, dtype=np.uint16) for number in range(data.draw(st.integers(1, 3)))]
    mask = [np.array(data.draw(st.lists(st.booleans(), min_size=40, max_size=40))) for _ in streams] if masked else None
    chosen = data.draw(st.lists(st.tuples(st.integers(0, len(streams) - 1), st.integers(0, 30), st.integers(1, 9)), max_size=5))
    context = [data.draw(st.integers(0, length)) for _, _, length in chosen]
    pieces = Pieces(
        stream=np.array([stream for stream, _, _ in chosen], np.int32),
        start=np.array([start for _, start, _ in chosen], np.int64),
        length=np.array([length for _, _, length in chosen], np.int64),
        unscored=np.array(context, np.int64) if with_context else None,
    )
    parts = []
    for (stream, start, length), skip in zip(chosen, context, strict=True):
        part = []
        for place in range(length):
            scored = (mask is None or mask[stream][start + place + 1]) and not (with_context and place < skip)
            part.append((100 * stream + start + place, 100 * stream + start + place + 1 if scored else -100))
        parts.append(part)
    row = lay_row(pieces, streams, sequence_length=48, pad_id=7, isolate=isolate, scored=mask)
    assert_same_row(row, slow_row(parts, 48, 7, isolate))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 64), max_size=200))
def test_best_fit_places_each_item_once(lengths: list[int]) -> None:
    order = np.random.default_rng(len(lengths)).permutation(len(lengths))
    rows = best_fit(np.array(lengths, np.int64), 64, order)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    loads = [sum(lengths[item] for item in row) for row in rows]
    assert all(0 < load <= 64 for load in loads)
    assert sum(load <= 32 for load in loads) <= 1  # two rows half empty would have been one


@pytest.mark.parametrize(("low", "high"), [(20, 80), (50, 400), (100, 1500)])
def test_best_fit_wastes_little(low: int, high: int) -> None:
    lengths = np.random.default_rng(0).integers(low, high, 5000)
    rows = best_fit(lengths, 2048, np.arange(5000))
    assert lengths.sum() / (2048 * len(rows)) > 0.98


def test_short_items_stay_mixed() -> None:
    """Rows follow the given order where items are short, so that each holds all kinds."""
    lengths = np.tile(np.array([20, 30, 40]), 1000)
    rows = best_fit(lengths, 512, np.random.default_rng(0).permutation(3000))
    assert np.mean([len(set(lengths[row])) for row in rows]) > 2.9
