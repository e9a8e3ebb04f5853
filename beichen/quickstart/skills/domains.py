"""Bijections between ``range(n)`` and structured choices: the proof that a skill's problems are distinct.

Each function takes an index and gives one choice; two indices never give the same one. A skill composes these, so
its number of problems follows from arithmetic alone. The tests enumerate small domains of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, perm


def mixed_radix(index: int, sizes: Sequence[int]) -> list[int]:
    """One digit per size, the last one running fastest; ``index`` below the product of ``sizes``."""
    digits = [0] * len(sizes)
    for place in range(len(sizes) - 1, -1, -1):
        index, digits[place] = divmod(index, sizes[place])
    return digits


def block(index: int, sizes: Sequence[int]) -> tuple[int, int]:
    """Domains laid end to end: (which one, index inside it); ``index`` below the sum of ``sizes``."""
    for number, size in enumerate(sizes):
        if index < size:
            return number, index
        index -= size
    raise IndexError(f"index lies beyond the {sum(sizes)} choices")


def unordered_pair(index: int) -> tuple[int, int]:
    """(low, high) with 0 <= low <= high; pairs below ``n`` are the first n (n + 1) / 2 indices."""
    high = (isqrt(8 * index + 1) - 1) // 2
    return index - high * (high + 1) // 2, high


def combination(index: int, size: int) -> tuple[int, ...]:
    """``size`` distinct numbers, increasing (combinatorial number system); those below ``n`` are the first C(n, size) indices."""
    if size == 2:
        low, high = unordered_pair(index)
        return low, high + 1
    chosen = []
    for remaining in range(size, 0, -1):
        value, count = remaining - 1, 0  # count = C(value, remaining)
        following = 1  # C(value + 1, remaining)
        while following <= index:
            value, count = value + 1, following
            following = following * (value + 1) // (value + 1 - remaining)
        chosen.append(value)
        index -= count
    return tuple(reversed(chosen))


def arrangement(index: int, population: int, size: int) -> tuple[int, ...]:
    """``size`` distinct numbers below ``population`` in an order that matters; ``index`` below perm(population, size)."""
    left = list(range(population))
    return tuple(left.pop(digit) for digit in mixed_radix(index, range(population, population - size, -1)))


def number_of_arrangements(population: int, size: int) -> int:
    """How many indices ``arrangement`` takes."""
    return perm(population, size)
