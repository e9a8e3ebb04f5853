"""Law: an index gives one choice, two indices never the same, and all choices are reached."""

from __future__ import annotations

from itertools import combinations, permutations, product
from math import comb

import pytest

from beichen.quickstart.skills.domains import arrangement, block, combination, mixed_radix, number_of_arrangements, unordered_pair


def test_mixed_radix_counts_through_every_tuple() -> None:
    sizes = (3, 1, 4, 2)
    assert [tuple(mixed_radix(index, sizes)) for index in range(24)] == list(product(*map(range, sizes)))


def test_blocks_lie_end_to_end() -> None:
    assert [block(index, (2, 0, 3)) for index in range(5)] == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    with pytest.raises(IndexError):
        block(5, (2, 0, 3))


@pytest.mark.parametrize("limit", [1, 7, 60])
def test_unordered_pairs_below_a_limit_come_first(limit: int) -> None:
    pairs = [unordered_pair(index) for index in range(limit * (limit + 1) // 2)]
    assert sorted(pairs) == [(low, high) for low in range(limit) for high in range(low, limit)]


@pytest.mark.parametrize(("population", "size"), [(6, 1), (9, 2), (9, 3), (8, 4), (5, 5)])
def test_combinations_below_a_limit_come_first(population: int, size: int) -> None:
    chosen = [combination(index, size) for index in range(comb(population, size))]
    assert sorted(chosen) == list(combinations(range(population), size))


@pytest.mark.parametrize(("population", "size"), [(5, 1), (6, 3), (4, 4)])
def test_arrangements_are_all_permutations(population: int, size: int) -> None:
    chosen = [arrangement(index, population, size) for index in range(number_of_arrangements(population, size))]
    assert sorted(chosen) == sorted(permutations(range(population), size))
