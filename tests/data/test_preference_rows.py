"""Laws of preferences in rows: a pair is never split, each unit comes once an epoch, documents see only themselves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from beichen.data.batch import IGNORED, Documents, collate
from beichen.data.packing import Pieces, lay_row
from beichen.data.pool import Part, Pool
from beichen.data.preference_rows import PreferenceRows, document_row, pack_documents
from beichen.data.preference_tokens import PreferenceTokens
from beichen.errors import SettingsError
from tests.data.preferences import collected, random_pairs, random_rated


def rows_of(tokens: PreferenceTokens, row: int, seed: int = 3) -> PreferenceRows:
    everything = Part(name="all", source=0, items=np.arange(len(tokens)), lengths=tokens.unit_positions)
    return PreferenceRows(tokens, sequence_length=row, seed=seed, pool=Pool(parts=[everything], weights=[1.0], seed=seed))


def assert_holds(tokens: PreferenceTokens, documents: Documents, batch, first_row: int = 0) -> None:
    """Every document of the batch stands in it as it is, isolated."""
    for place, number in enumerate(documents.number.tolist()):
        here = documents.place == place
        rows = here.any(1).nonzero().flatten().tolist()
        assert len(rows) == 1
        begin, end = tokens.offsets[number : number + 2].tolist()
        assert batch.input_ids[here].tolist() == tokens.ids[begin : end - 1].tolist()
        wanted = np.where(tokens.scored[begin + 1 : end], tokens.ids[begin + 1 : end], IGNORED)
        assert batch.targets[here].tolist() == wanted.tolist()
        assert batch.positions[here].tolist() == list(range(end - begin - 1))
        assert batch.first_visible[here].unique().tolist() == [int(here[rows[0]].nonzero()[0])]


@pytest.mark.parametrize("paired", [True, False])
def test_every_unit_is_whole_and_once_an_epoch(paired):
    tokens = collected(random_pairs(60) if paired else random_rated(60), paired=paired)
    rows = rows_of(tokens, 96)
    index = 0
    for _ in range(2):
        met: Counter[int] = Counter()
        while met.total() < len(tokens):
            batch = collate([rows.row(index), rows.row(index + 1)] if met.total() == 0 else [rows.row(index)])
            index += len(batch.input_ids)
            documents = batch.documents
            assert documents is not None
            assert_holds(tokens, documents, batch)
            number = documents.number.tolist()
            if paired:
                assert [n % 2 for n in number] == [0, 1] * documents.units
                assert [n // 2 for n in number[0::2]] == [n // 2 for n in number[1::2]]
                same_row = [bool((documents.place == place).any(1).equal((documents.place == place + 1).any(1)))
                            for place in range(0, len(number), 2)]  # fmt: skip
                assert all(same_row)
            else:
                assert documents.good is not None and tokens.good is not None
                assert documents.good.tolist() == tokens.good[np.array(number) // 2].tolist()
                mismatched = documents.mismatched
                assert mismatched is not None and mismatched.documents is not None
                assert_holds(tokens, mismatched.documents, mismatched)
                assert mismatched.documents.number.tolist() == [n + 1 for n in number]
            met.update(n // 2 for n in (number[0::2] if paired else number))
            assert batch.target_weight == documents.units == len(met) - (len(met) - documents.units)
        assert met == Counter(range(len(tokens)))


def test_a_row_follows_from_seed_and_number():
    tokens = collected(random_pairs(60))
    rows, again, other = rows_of(tokens, 96), rows_of(tokens, 96), rows_of(tokens, 96, seed=4)
    last = int(rows.rows_per_epoch) + 2
    assert again.samples(last) == rows.samples(last)
    np.testing.assert_array_equal(again.row(last).input_ids, rows.row(last).input_ids)
    assert [other.samples(index) for index in range(5)] != [rows.samples(index) for index in range(5)]


def test_the_targets_of_a_unit_count_one_together():
    rows = rows_of(collected(random_pairs(20)), 96)
    row = rows.row(0)
    assert row.weights is not None and row.documents is not None
    assert float(row.weights[row.targets != IGNORED].sum()) == pytest.approx(row.documents.units, rel=1e-6)


def test_an_empty_row_adds_nothing():
    rows = rows_of(collected(random_pairs(20)), 96)
    nothing = np.zeros(0, np.int64)
    empty = lay_row(Pieces(stream=nothing, start=nothing, length=nothing), [np.zeros(1, np.int32)], sequence_length=96, pad_id=0)
    alone, beside = collate([rows.row(0)]), collate([empty, rows.row(0)])
    assert alone.documents is not None and beside.documents is not None
    assert beside.target_weight == alone.target_weight
    assert torch.equal(beside.documents.place[1], alone.documents.place[0])
    assert (beside.documents.place[0] == len(alone.documents.number)).all()
    assert collate([empty]).documents is None


def test_packing_for_scores_takes_every_document_once():
    tokens = collected(random_rated(30), paired=False)
    chosen = np.arange(0, 60, 3)
    packed = pack_documents(tokens, chosen, sequence_length=96)
    assert sorted(np.concatenate(packed).tolist()) == chosen.tolist()
    for documents in packed:
        row = document_row(tokens, documents, sequence_length=96)
        assert row.token_count == tokens.positions[documents].sum() <= 96


def test_rows_shorter_than_what_was_collected_are_refused():
    with pytest.raises(SettingsError, match="collected for longer rows than 10"):
        rows_of(collected(random_pairs(5)), 10)
