"""Laws of phases: as long as they say, what they admit and in their shares, on from where the phase before stopped, by number alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beichen.data.account import Account
from beichen.data.batch import IGNORED, Batch
from beichen.data.curriculum import Phase, Stretch, plan_phases
from beichen.data.loader import Loader, Stages
from beichen.data.mixture import Mixture
from beichen.data.rows import PretrainingRows, RowSource
from beichen.data.store import StoreWriter, TokenStore
from beichen.errors import DataError

END = 0


def graded_store(folder: Path, lengths: Sequence[int], *, first_id: int, quality: Sequence[float] | None = None) -> TokenStore:
    """Document n is ``first_id + n`` so many times."""
    folder.mkdir()
    grades = {} if quality is None else {"quality": "<f4"}
    writer = StoreWriter(folder, vocab_size=5000, end_id=END, tokenizer_fingerprint="numbers", grades=grades)
    ids = np.concatenate([[first_id + number] * length + [END] for number, length in enumerate(lengths)])
    columns = {"bytes": np.array(lengths, "<i8")} | ({} if quality is None else {"quality": np.array(quality, "<f4")})
    writer.add_joined(ids, np.array(lengths, np.int64) + 1, columns)
    account = Account()
    account.read.add(sum(lengths), len(lengths))
    account.used.add(sum(lengths), len(lengths))
    writer.finish(account=account, inputs={})
    return TokenStore(folder)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStore]:
    rng = random.Random(0)
    folder = tmp_path_factory.mktemp("stores")
    return {
        "easy": graded_store(folder / "easy", [rng.randint(1, 20) for _ in range(150)], first_id=1000,
                             quality=[number / 150 for number in range(150)]),
        "hard": graded_store(folder / "hard", [rng.randint(1, 60) for _ in range(60)], first_id=2000,
                             quality=[(number % 10) / 10 for number in range(60)]),
        "code": graded_store(folder / "code", [30] * 20, first_id=3000),
    }  # fmt: skip


def make_rows(mixture: Mixture, sequence_length: int) -> RowSource:
    return PretrainingRows(mixture, sequence_length=sequence_length, seed=7)


def planned(sources: dict[str, TokenStore], phases: Sequence[Phase], **settings: Any) -> list[Stretch]:
    return plan_phases({name: [store] for name, store in sources.items()}, phases, seed=7, make_rows=make_rows, **settings)


PHASES = (
    Phase(name="first", weights={"easy": 2.0, "code": 0.5}, sequence_length=16, until_tokens=1500),
    Phase(name="second", weights={"hard": 1.0, "easy": 0.3}, sequence_length=32, until_tokens=4000, grades={"quality": (0.2, 0.7)}),
    Phase(name="annealing", weights={"hard": 1.0, "easy": 1.0}, sequence_length=32, until_tokens=5000, grades={"quality": (0.5, 1.0)}),
)


def targets(stretch: Stretch) -> Counter[int]:
    assert stretch.num_rows is not None
    found = Counter(int(target) for index in range(stretch.num_rows) for target in stretch.rows.row(index).targets)
    return Counter({target: count for target, count in found.items() if target not in (IGNORED, END)})


def test_phases_are_as_long_as_they_say_and_read_only_what_they_admit(sources) -> None:
    stretches = planned(sources, PHASES)
    assert [stretch.num_rows for stretch in stretches] == [94, 78, 32]
    assert [stretch.positions for stretch in stretches] == [1504, 2496, 1024]
    for stretch in stretches:
        assert {len(stretch.rows.row(index).input_ids) for index in range(stretch.num_rows or 0)} == {stretch.phase.sequence_length}
        admitted = {
            first + number
            for name, first in (("easy", 1000), ("hard", 2000), ("code", 3000))
            for number in range(sources[name].num_documents)
            if name in stretch.phase.weights
            and all(low <= sources[name].column(grade)[number] <= high for grade, (low, high) in stretch.phase.grades.items())
        }
        assert targets(stretch) and targets(stretch).keys() <= admitted


def test_what_a_phase_uses_is_what_its_rows_hold(sources) -> None:
    """What is drawn and not read is at most the end of one document, and what one row lacks."""
    for stretch in planned(sources, PHASES):
        assert stretch.num_rows is not None
        held = sum(stretch.rows.row(index).token_count for index in range(stretch.num_rows))
        assert held <= sum(use.tokens for use in stretch.uses.values()) <= held + 61 + 31
        assert sum(use.share for use in stretch.uses.values()) == pytest.approx(1.0)
        for name, use in stretch.uses.items():
            store = sources[name]
            grades = stretch.phase.grades.get("quality")
            chosen = np.ones(store.num_documents, bool) if grades is None else (store.column("quality") >= grades[0]) & (
                store.column("quality") <= grades[1])  # fmt: skip
            assert use.documents == chosen.sum()
            assert use.epochs == pytest.approx(use.tokens / store.lengths[chosen].sum(), rel=0.35)


def test_equal_phases_are_one_phase_cut_in_two(sources) -> None:
    """Nothing comes twice before everything came once, across phases too."""
    weights = {"easy": 1.0, "hard": 1.0}
    total = sum(sources[name].num_tokens for name in weights)
    parts = [Phase(name=str(end), weights=weights, sequence_length=8, until_tokens=end) for end in (total // 3, total // 2, total + 9)]
    met: Counter[int] = sum((targets(stretch) for stretch in planned(sources, parts)), Counter())
    for name, first in (("easy", 1000), ("hard", 2000)):
        for number, length in enumerate(sources[name].lengths - 1):
            assert met[first + number] <= 2 * length
    seen = sum(min(met[first + n], length) for name, first in (("easy", 1000), ("hard", 2000))
               for n, length in enumerate(sources[name].lengths - 1))  # fmt: skip
    assert seen >= 0.9 * (total - 210), "what is missed was cut at the ends of the phases"


def test_shares_are_shares_of_the_tokens(sources) -> None:
    shares = {"easy": 6.0, "hard": 3.0, "code": 1.0}
    (stretch,) = planned(sources, [Phase(name="all", weights=shares, sequence_length=16, until_tokens=20_000)], weigh_by="shares")
    for name, share in shares.items():
        assert stretch.uses[name].share == pytest.approx(share / 10, abs=0.01)
    met = targets(stretch)
    easy = sum(count for target, count in met.items() if target < 2000)
    assert easy / met.total() == pytest.approx(0.6, abs=0.02)


def test_weights_in_epochs_walk_until_the_phase_has_its_tokens(sources) -> None:
    """TeleChat's: the weighted pool over and over, each pass shuffled anew; 2.0 is met twice as often as 1.0."""
    weights = {"easy": 2.0, "hard": 1.0, "code": 0.5}
    passes = 2.5
    tokens = int(passes * sum(weight * sources[name].num_tokens for name, weight in weights.items()))
    (stretch,) = planned(sources, [Phase(name="all", weights=weights, sequence_length=16, until_tokens=tokens)])
    for name, weight in weights.items():
        assert stretch.uses[name].epochs == pytest.approx(passes * weight, rel=0.03, abs=2 / sources[name].num_documents)


def all_rows(batches: Sequence[Batch]) -> list[tuple[list[int], list[int]]]:
    return [
        (ids.tolist(), target.tolist()) for batch in batches for ids, target in zip(batch.input_ids, batch.targets, strict=True)
    ]  # fmt: skip


def loaders(stretches: Sequence[Stretch], rank: int, world_size: int, micro: int) -> Stages:
    """Rows twice as long are half as many."""
    return Stages([
        Loader(stretch.rows, rows_per_step=8 * 16 // stretch.phase.sequence_length, rows_per_micro_batch=micro, rank=rank,
               world_size=world_size, num_rows=stretch.num_rows)
        for stretch in stretches
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_any_world_size_threads_and_restarts_give_the_same_sequence(sources, seed: int) -> None:
    """The run as one process reads it, against runs that stop anywhere and go on, fresh from disk, with other processes and threads."""
    rng = random.Random(seed)
    stretches = planned(sources, PHASES)
    plain = loaders(stretches, 0, 1, 4)
    assert plain.steps == 12 + 20 + 8 and plain.micro_batches(40) == []
    whole = [all_rows(plain.micro_batches(step)) for step in range(plain.steps)]
    told = [row for step in whole for row in step if any(target != IGNORED for target in row[1])]
    assert len(told) == 94 + 78 + 32, "exactly the rows of the phases"
    step = 0
    while step < plain.steps:
        world_size, micro, threads = rng.choice([1, 2, 4]), 4, rng.choice([1, 3])
        until = min(plain.steps, step + rng.randint(1, 15))
        again = planned(sources, PHASES)
        ranks = [loaders(again, rank, world_size, micro) for rank in range(world_size)]
        with ThreadPoolExecutor(threads) as pool:
            asked = [[pool.submit(rank.micro_batches, number) for rank in ranks] for number in range(step, until)]
            for number, futures in zip(range(step, until), asked, strict=True):
                turns = zip(*(future.result() for future in futures), strict=True)
                assert all_rows([batch for turn in turns for batch in turn]) == whole[number]
        step = until


def test_a_loader_gives_exactly_so_many_rows(sources) -> None:
    """N rows for any N: the last step is filled with rows that score nothing."""
    rows = make_rows(Mixture(list(sources.values()), [1.0, 2.0, 0.5], seed=7), 16)
    for count in (1, 7, 8, 9, 300):
        loader = Loader(rows, rows_per_step=8, rows_per_micro_batch=4, num_rows=count)
        assert loader.steps == -(-count // 8)
        batches = [batch for step in range(loader.steps) for batch in loader.micro_batches(step)]
        given = [row for row in all_rows(batches) if any(target != IGNORED for target in row[1])]
        assert [row[0] for row in given] == [rows.row(index).input_ids.tolist() for index in range(count)]
        assert sum(batch.target_count for batch in batches) == sum(int((rows.row(i).targets != IGNORED).sum()) for i in range(count))


def test_phases_that_find_nothing_are_refused(sources) -> None:
    with pytest.raises(DataError, match="phase 'x': no document of source 'hard' has the grades it asks for"):
        planned(sources, [Phase(name="x", weights={"hard": 1.0}, sequence_length=8, until_tokens=9, grades={"quality": (2.0, 3.0)})])
    with pytest.raises(DataError, match="holds no 'quality' of documents"):
        planned(sources, [Phase(name="x", weights={"code": 1.0}, sequence_length=8, until_tokens=9, grades={"quality": (0.0, 1.0)})])
