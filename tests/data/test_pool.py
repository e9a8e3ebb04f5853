"""Laws of pools: weights count laps, walks are without replacement, any beginning of a pass is in proportion, what follows goes on."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from beichen.data.pool import Part, Pass, Pool
from beichen.errors import SettingsError


def parts(*counts: int, longest: int = 9) -> list[Part]:
    rng = random.Random(sum(counts))
    return [
        Part(name=f"part {number}", source=number, items=np.arange(count) * 10,
             lengths=np.array([rng.randint(1, longest) for _ in range(count)]))
        for number, count in enumerate(counts)
    ]  # fmt: skip


def visits(*passes: Pass) -> list[Counter[int]]:
    found: dict[int, Counter[int]] = {}
    for drawn in passes:
        for source, item in zip(drawn.source.tolist(), drawn.item.tolist(), strict=True):
            found.setdefault(source, Counter())[item] += 1
    return [found.get(number, Counter()) for number in range(9)]


@pytest.mark.parametrize("seed", range(12))
def test_every_epoch_visits_each_item_its_weight_times(seed: int) -> None:
    """Whole weights: exactly, in each pass. Others: after any passes floor or ceiling of weight times passes, never in between."""
    rng = random.Random(seed)
    given = parts(*(rng.randint(1, 40) for _ in range(rng.randint(1, 5))))
    weights = [rng.choice([0.25, 0.5, 1.0, 1.24, 2.0, 3.7]) for _ in given]
    weights[0] = float(rng.randint(1, 3))
    pool = Pool(parts=given, weights=weights, seed=seed)
    passes = [pool.draw(number) for number in range(5)]
    for part, weight in zip(given, weights, strict=True):
        for done in range(1, 6):
            met = visits(*passes[:done])[part.source]
            steps = int(np.floor(done * weight * part.count))
            assert met.total() == steps
            assert {met[item] for item in part.items.tolist()} <= {steps // part.count, -(-steps // part.count)}
            if weight.is_integer():
                assert {passes[done - 1].item[passes[done - 1].source == part.source].tolist().count(i) for i in part.items} == {weight}
    assert pool.tokens_per_pass == pytest.approx(sum(w * int(p.lengths.sum()) for p, w in zip(given, weights, strict=True)))


def test_a_pass_follows_from_seed_and_number_and_is_shuffled_anew() -> None:
    pool = Pool(parts=parts(30, 20), weights=[1.0, 0.5], seed=1)
    again = Pool(parts=parts(30, 20), weights=[1.0, 0.5], seed=1)
    drawn = [pool.draw(number).item.tolist() for number in range(4)]
    assert [again.draw(number).item.tolist() for number in (3, 0, 2, 1)] == [drawn[number] for number in (3, 0, 2, 1)]
    assert drawn[0] != drawn[1] and drawn[0] != Pool(parts=parts(30, 20), weights=[1.0, 0.5], seed=2).draw(0).item.tolist()
    lengths = {(part.source, item): length for part in pool.parts for item, length in zip(part.items.tolist(), part.lengths, strict=True)}
    third = pool.draw(3)
    assert [lengths[key] for key in zip(third.source.tolist(), third.item.tolist(), strict=True)] == third.length.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_any_beginning_of_a_pass_is_in_proportion(seed: int) -> None:
    pool = Pool(parts=parts(100, 40, 7), weights=[1.0, 2.0, 0.5], seed=seed)
    drawn = pool.draw(0)
    expected = np.array([part.tokens * weight for part, weight in zip(pool.parts, pool.weights, strict=True)])
    for end in range(1, len(drawn) + 1):
        tokens = np.bincount(drawn.source[:end], weights=drawn.length[:end], minlength=3)
        off = tokens - expected * tokens.sum() / expected.sum()
        assert (np.abs(off) <= 3 * 9).all(), "each part is at most one item off, and so are the others together"


@pytest.mark.parametrize("seed", range(20))
def test_what_follows_an_ended_pool_goes_on_where_it_stopped(seed: int) -> None:
    """Cut anywhere, go on with other weights: no item is met twice before all of its part were met."""
    rng = random.Random(seed)
    given = parts(rng.randint(5, 30), rng.randint(5, 30))
    first = Pool(parts=given, weights=[1.0, 0.5], seed=seed)
    tokens = rng.randint(1, int(first.tokens_per_pass))
    ended = first.ending(1, tokens)
    last = ended.draw(1)
    assert last.length.sum() >= tokens > last.length[:-1].sum() or len(last) == len(first.draw(1))
    assert last.item.tolist() == first.draw(1).item[: len(last)].tolist() and ended.draw(0).item.tolist() == first.draw(0).item.tolist()
    second = Pool(parts=given, weights=[0.3, 2.0], seed=seed, starts=ended.reached())
    met = visits(ended.draw(0), ended.draw(1), second.draw(0), second.draw(1))
    for part in given:
        counts = [met[part.source][item] for item in part.items.tolist()]
        assert max(counts) - min(counts) <= 1


def test_pools_that_make_no_sense_are_refused() -> None:
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="must be above 0"):
            Pool(parts=parts(3), weights=[weight], seed=0)
    with pytest.raises(SettingsError, match="give one for each"):
        Pool(parts=parts(3), weights=[1.0, 2.0], seed=0)
    with pytest.raises(SettingsError, match="less than one item"):
        Pool(parts=parts(3, 2), weights=[0.3, 0.4], seed=0)
