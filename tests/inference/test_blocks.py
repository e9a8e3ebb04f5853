"""Blocks against a slow model: who owns what, what can be found, and that nothing is ever lost."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from beichen.inference.blocks import Blocks


@given(st.integers(0, 10**6))
def test_what_is_found_is_what_was_computed(seed):
    """Sequences over two letters and two roots come and go: a block that is found holds these ids, after the same ids, under that root."""
    rng = random.Random(seed)
    size = rng.choice([1, 2, 3])
    blocks = Blocks(rng.randint(4, 14), size)
    held: dict[int, tuple[str, list[int]]] = {}  # block -> root and all ids up to its end, as last written
    running: list[list[int]] = []
    shared = 0
    for _ in range(120):
        if running and rng.random() < 0.45:
            blocks.release(running.pop(rng.randrange(len(running))))
        else:
            root, ids = rng.choice("xy"), [rng.randrange(2) for _ in range(rng.randint(1, 4 * size + 1))]
            table, content = blocks.find_prefix(root, ids)
            for place, number in enumerate(table, start=1):
                assert held[number] == (root, ids[: place * size])
            assert len(table) * size < len(ids)
            shared += len(table)
            own = blocks.take(blocks.needed(len(ids)) - len(table))
            if own is None:
                blocks.release(table)
                continue
            known = len(table)
            table += own
            for place in range(known, len(ids) // size):
                content = blocks.fill(table[place], content, ids[place * size : (place + 1) * size])
                held[table[place]] = (root, ids[: (place + 1) * size])
            running.append(table)
        blocks.check_integrity(running)
        assert blocks.free == blocks.count - len({number for table in running for number in table})
    for table in running:
        blocks.release(table)
    blocks.check_integrity([])
    assert blocks.free == blocks.count


def test_what_was_left_last_is_kept_longest():
    blocks = Blocks(4, 1)
    for letter in range(4):
        (number,) = blocks.take(1) or []
        blocks.fill(number, "root", [letter])
        blocks.release([number])
    assert blocks.take(2) is not None  # the two that were left first
    assert [bool(blocks.find_prefix("root", [letter, 9])[0]) for letter in range(4)] == [False, False, True, True]


def test_too_many_are_refused_as_a_whole():
    blocks = Blocks(3, 4)
    assert blocks.take(4) is None and blocks.free == 3
    assert blocks.needed(0) == 0 and blocks.needed(8) == 2 and blocks.needed(9) == 3
