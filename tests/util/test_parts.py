"""All parts of a work are done, in order, and its result comes out."""

from __future__ import annotations

from beichen.util.parts import done


def test_the_result_comes_behind_all_parts():
    seen = []

    def work():
        for number in range(5):
            seen.append(number)
            yield number % 2 == 0
        return "result"

    assert done(work()) == "result" and seen == [0, 1, 2, 3, 4]
