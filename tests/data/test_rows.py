"""Laws of pretraining rows: every token of an epoch is a target once, documents are whole apart from cuts, order follows from the key."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from beichen.data.batch import IGNORED
from beichen.data.encoding import encode_documents
from beichen.data.loader import Loader
from beichen.data.mixture import Mixture
from beichen.data.rows import PretrainingRows
from beichen.errors import DataError, SettingsError
from tests.data.byte_tokenizer import ByteTokenizer, CharacterTokenizer, documents_of, make_store
from tests.data.slow_rows import Position, assert_same_row, document_positions, slow_row, split_row

TEXTS = ["".join(chr(97 + (number * 7 + place) % 26) for place in range(number * 13 % 60)) + str(number) for number in range(80)]
END = 256


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    return Mixture([make_store(tmp_path_factory.mktemp("store") / "all", TEXTS)])


def epoch_rows(rows: PretrainingRows, epoch: int, count: int) -> range:
    return range(epoch * count, (epoch + 1) * count)


def rows_in_epoch(total: int, sequence_length: int) -> int:
    return -(-total // sequence_length)


@pytest.mark.parametrize("sequence_length", [1, 2, 31, 64, 5000])
@pytest.mark.parametrize("isolate", [True, False])
def test_each_token_of_an_epoch_is_a_target_once(mixture: Mixture, sequence_length: int, isolate: bool) -> None:
    rows = PretrainingRows(mixture, sequence_length=sequence_length, seed=5, isolate=isolate)
    store = mixture.stores[0]
    count = rows_in_epoch(store.num_tokens, sequence_length)
    assert rows.rows_per_epoch == store.num_tokens / sequence_length
    for epoch in range(2):
        found: Counter[tuple[int, int]] = Counter()
        padding = 0
        for index in epoch_rows(rows, epoch, count):
            row = rows.row(index)
            used = slice(row.token_count)
            assert (row.targets[used] != IGNORED).all() and (row.targets[row.token_count :] == IGNORED).all()
            found.update(zip(row.input_ids[used].tolist(), row.targets[used].tolist(), strict=True))
            padding += sequence_length - row.token_count
        assert found == Counter(pair for text in TEXTS for pair in document_positions(list(text.encode()), END))
        assert 0 <= padding < sequence_length


@pytest.mark.parametrize("sequence_length", [7, 64])
def test_rows_are_pieces_of_documents_and_a_cut_goes_on_elsewhere(tmp_path: Path, sequence_length: int) -> None:
    """The parts of all rows, joined where the last target of one is the first input of another, are the documents."""
    texts = ["".join(chr(0x4E00 + 100 * number + place) for place in range(number * 13 % 60 + 1)) for number in range(80)]
    store = encode_documents(documents_of(texts), CharacterTokenizer(), tmp_path / "s").train
    rows = PretrainingRows(Mixture([store]), sequence_length=sequence_length, seed=1)
    begun: list[list[Position]] = []
    later: dict[int, list[Position]] = {}
    for index in range(rows_in_epoch(store.num_tokens, sequence_length)):
        row = rows.row(index)
        parts = split_row(row)
        assert_same_row(row, slow_row(parts, sequence_length, 0))
        begun += [part for part in parts if part[0][0] == 0]
        later |= {part[0][0]: part for part in parts if part[0][0] != 0}
    for part in begun:
        while part[-1][1] != 0:
            part += later.pop(part[-1][1])
    assert not later
    assert sorted(begun) == sorted(document_positions([ord(character) for character in text], 0) for text in texts)


def test_rows_follow_from_seed_and_number_alone(mixture: Mixture) -> None:
    def rows(seed: int = 3) -> PretrainingRows:
        return PretrainingRows(mixture, sequence_length=32, seed=seed)

    first = [rows().row(index) for index in range(250)]
    resumed = rows()
    for index in (249, 100, 0, 170, 101):
        assert_same_row(first[index], resumed.row(index))
    count = rows_in_epoch(mixture.stores[0].num_tokens, 32)
    assert any((first[index].input_ids != first[index + count].input_ids).any() for index in range(5))
    assert any((first[index].input_ids != rows(4).row(index).input_ids).any() for index in range(5))


def test_neighbouring_rows_are_not_one_document(tmp_path: Path) -> None:
    rows = PretrainingRows(
        Mixture([make_store(tmp_path / "s", [chr(97 + number) * 400 for number in range(20)])]), sequence_length=50, seed=0
    )
    same = sum(set(rows.row(index).input_ids) == set(rows.row(index + 1).input_ids) for index in range(100))
    assert same < 30


def test_weights_count_epochs(tmp_path: Path) -> None:
    """2.0 is each document twice; 0.5 is half of them, and the other half in the next epoch; wherever reading starts."""
    stores = [make_store(tmp_path / name, [f"{name}{number:03d}" for number in range(20)]) for name in "abc"]
    mixture = Mixture(stores, [2.0, 0.5, 1.25])
    epochs = []
    for epoch in range(4):
        drawn = mixture.epoch(epoch)
        epochs.append([Counter(drawn.item[drawn.source == number].tolist()) for number in range(3)])
        assert epochs[-1][0] == Counter(dict.fromkeys(range(20), 2))
        assert [part.total() for part in epochs[-1]] == [40, 10, 25]
    assert epochs[0][1] + epochs[1][1] == epochs[2][1] + epochs[3][1] == Counter(range(20))
    assert sum((epoch[2] for epoch in epochs), Counter()) == Counter(dict.fromkeys(range(20), 5))
    third = Mixture([stores[0]], [1 / 3])
    drawn_thirds = [third.epoch(epoch).item.tolist() for epoch in range(3)]
    assert [len(part) for part in drawn_thirds] == [6, 7, 7]
    assert sorted(number for part in drawn_thirds for number in part) == list(range(20))
    rows = PretrainingRows(mixture, sequence_length=16, seed=0)
    last = PretrainingRows(mixture, sequence_length=16, seed=0).row(60)
    for index in range(61):
        row = rows.row(index)
    assert_same_row(row, last)
    found = Counter(target for index in range(75 * 5 // 16 + 1) for target in rows.row(index).targets.tolist())
    assert (found[97], found[98], found[99]) == (40, 10, 25)


def test_mixtures_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", ["a"])
    other = encode_documents(documents_of(["b"]), ByteTokenizer("another"), tmp_path / "b").train
    with pytest.raises(DataError, match="different tokenizers"):
        Mixture([store, other])
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="must be above 0"):
            Mixture([store], [weight])
    with pytest.raises(SettingsError, match="one weight for each"):
        Mixture([store], [1.0, 2.0])


@pytest.mark.parametrize(("rank_count", "micro"), [(1, 8), (2, 8), (4, 4), (1, 1)])
def test_steps_do_not_depend_on_micro_batches_or_processes(mixture: Mixture, rank_count: int, micro: int) -> None:
    rows = PretrainingRows(mixture, sequence_length=32, seed=3)
    plain = Loader(rows, rows_per_step=8, rows_per_micro_batch=8)
    parts = [Loader(rows, rows_per_step=8, rows_per_micro_batch=micro, rank=rank, world_size=rank_count) for rank in range(rank_count)]
    assert plain.steps_per_epoch == rows.rows_per_epoch / 8
    for step in (0, 5, 2):
        (whole,) = plain.micro_batches(step)
        for name in ("input_ids", "targets", "positions", "first_visible"):
            micros = [
                np.concatenate([getattr(batch, name) for batch in turn])
                for turn in zip(*(p.micro_batches(step) for p in parts), strict=True)
            ]
            np.testing.assert_array_equal(np.concatenate(micros), getattr(whole, name))
        batches = [batch for part in parts for batch in part.micro_batches(step)]
        assert sum(batch.target_count for batch in batches) == whole.target_count == int((whole.targets != IGNORED).sum())
        assert sum(batch.token_count for batch in batches) == whole.token_count


def test_loader_refuses_rows_that_do_not_divide(mixture: Mixture) -> None:
    rows = PretrainingRows(mixture, sequence_length=32, seed=3)
    with pytest.raises(SettingsError, match="rows_per_step=7 is not a multiple"):
        Loader(rows, rows_per_step=7, rows_per_micro_batch=2)
    with pytest.raises(SettingsError, match="not a multiple of the 3 processes"):
        Loader(rows, rows_per_step=8, rows_per_micro_batch=8, world_size=3)
