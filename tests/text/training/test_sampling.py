import random

import pytest

from beichen.text.training.runs import Row, hash_word
from beichen.text.training.sampling import NARROW_SYMBOLS, kept_count, slots_needed, smallest_threshold, symbol_bytes


def test_nothing_is_left_out_at_threshold_one():
    assert all(kept_count(hash_word(bytes([value])), count, 1) == count for value in range(256) for count in (1, 5))


@pytest.mark.parametrize(("count", "threshold"), [(1, 2), (1, 16), (5, 16), (15, 16), (3, 7)])
def test_counts_stay_right_on_average(count, threshold):
    words = 40_000
    kept = sum(kept_count(hash_word(str(number).encode()), count, threshold) for number in range(words))
    spread = (words * (threshold / count - 1)) ** 0.5 * count  # of a sum of independent draws
    assert abs(kept - words * count) < 5 * spread


def test_the_threshold_is_the_smallest_that_fits():
    draw = random.Random(0)
    for _ in range(200):
        histogram = [Row(count, draw.randrange(1, 1 << 24), draw.randrange(1, 1 << 30)) for count in sorted(draw.sample(range(1, 50), 5))]
        memory = draw.randrange(64 << 20, 1 << 31)
        threshold = smallest_threshold(histogram, memory=memory, symbols=32_000)
        room = memory * 6 // 10 // 2
        assert slots_needed(histogram, threshold) <= room
        assert threshold == 1 or slots_needed(histogram, threshold - 1) > room


def test_many_symbols_take_four_bytes():
    assert symbol_bytes(NARROW_SYMBOLS) == 2 and symbol_bytes(NARROW_SYMBOLS + 1) == 4
