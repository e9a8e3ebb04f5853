"""Laws of held-out rows: every token is scored once, with as much context as the stride promises."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from beichen.data.batch import IGNORED
from beichen.data.scoring import ScoringRows
from beichen.errors import DataError, SettingsError
from tests.data.byte_tokenizer import make_store
from tests.data.slow_rows import assert_same_row, document_positions, slow_row, split_row

# Each document uses characters of its own, each once, so that a position is known by its (input, target).
TEXTS = ["abcdefghijklmnopqrstuvwxyz", "A", "", "0123456789", "BCDEFGHIJKLMNOPQRST", "!#$%&()"]


@pytest.mark.parametrize(("sequence_length", "stride"), [(8, None), (8, 8), (8, 1), (8, 3), (64, 32), (1, 1), (27, 5), (26, 5)])
def test_every_token_is_scored_once(tmp_path: Path, sequence_length: int, stride: int | None) -> None:
    store = make_store(tmp_path / "s", TEXTS)
    rows = ScoringRows(store, sequence_length=sequence_length, stride=stride)
    everything = {text: document_positions(list(text.encode()), 256) for text in TEXTS}
    place_of = {pair: (text, place) for text, pairs in everything.items() for place, pair in enumerate(pairs)}
    found: Counter[tuple[int, int]] = Counter()
    for index in range(len(rows)):
        row = rows.row(index)
        parts = split_row(row)
        assert_same_row(row, slow_row(parts, sequence_length, 256))
        for part in parts:
            scored = [place for place, pair in enumerate(part) if pair[1] != IGNORED]
            text, last = place_of[part[-1]]
            begin = last - len(part) + 1
            truth = everything[text][begin : last + 1]
            assert [pair[0] for pair in part] == [pair[0] for pair in truth]
            assert scored == list(range(scored[0], len(part)))  # context first, then all that is scored
            assert scored[0] == 0 if begin == 0 else scored[0] >= sequence_length - (stride or max(1, sequence_length // 2))
            found.update(part[place] for place in scored)
    assert found == Counter(pair for pairs in everything.values() for pair in pairs)
    assert rows.num_targets == found.total() == store.num_tokens
    assert rows.num_bytes == sum(len(text.encode()) for text in TEXTS)


def test_batches_have_one_shape_and_hold_every_row(tmp_path: Path) -> None:
    rows = ScoringRows(make_store(tmp_path / "s", TEXTS), sequence_length=8)
    batches = list(rows.batches(3))
    assert len(batches) == rows.num_batches(3) and len(rows) % 3
    assert {tuple(batch.input_ids.shape) for batch in batches} == {(3, 8)}
    assert sum(batch.target_count for batch in batches) == rows.num_targets


def test_some_documents_only(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", TEXTS)
    chosen = np.array([0, 2])
    rows = ScoringRows(store, sequence_length=8, documents=chosen)
    assert rows.num_targets == store.lengths[chosen].sum() == sum(batch.target_count for batch in rows.batches(2))
    assert rows.num_bytes == sum(len(TEXTS[number]) for number in chosen)


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", TEXTS)
    with pytest.raises(SettingsError, match="between 1 and the sequence length"):
        ScoringRows(store, sequence_length=8, stride=9)
    with pytest.raises(DataError, match="no held-out documents"):
        ScoringRows(store, sequence_length=8, documents=np.zeros(0, np.int64))
