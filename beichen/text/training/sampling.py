"""Which words are kept when not all fit into memory: threshold sampling.

With a threshold T, a word seen c times is kept with probability min(1, c/T), by its hash, and then counts max(c, T) times. So
every count of a pair stays right on average, the frequent words stay exact, and which words are kept depends on nothing but the
words. With T = 1 nothing is left out. (Leaving out the rarest words instead would take all its text from a language without spaces.)
"""

from __future__ import annotations

from collections.abc import Sequence

from beichen.text.training.runs import Row

NARROW_SYMBOLS = (1 << 15) - 2  # with fewer symbols than that, one takes 2 bytes, else 4 (word_store.h)
_MOST_SLOTS = (1 << 32) - (1 << 20)  # places are 32-bit numbers
_SHARE = (6, 10)  # of the memory, for the words; the rest is for pairs and their places


def symbol_bytes(symbols: int) -> int:
    """Bytes of one symbol in memory."""
    return 2 if symbols <= NARROW_SYMBOLS else 4


def slots_needed(histogram: Sequence[Row], threshold: int) -> int:
    """Symbols in memory to be expected, ends of words included."""
    exact = sum(row.words + row.bytes for row in histogram if row.count >= threshold)
    sampled = sum((row.words + row.bytes) * row.count for row in histogram if row.count < threshold)
    return exact + sampled // threshold


def smallest_threshold(histogram: Sequence[Row], *, memory: int, symbols: int) -> int:
    """The smallest threshold with which the words fit."""
    room = min(memory * _SHARE[0] // _SHARE[1] // symbol_bytes(symbols), _MOST_SLOTS)
    low, high = 1, 1
    while slots_needed(histogram, high) > room:
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if slots_needed(histogram, middle) <= room else (middle + 1, high)
    return high


def kept_count(word_hash: int, count: int, threshold: int) -> int:
    """How often a word is said to occur; 0: it is left out."""
    if count >= threshold:
        return count
    return threshold if (word_hash >> 8) % threshold < count else 0
