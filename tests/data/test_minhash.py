"""Laws of likeness: signatures estimate what sets of 5-grams say, and keys see exactly what their level sees."""

from __future__ import annotations

import random

import numpy as np
import pytest

from beichen.data.minhash import GRAM, PERMUTATIONS, Level, band_keys, grams_of, signature, text_key

CHOICE = random.Random(1)
BASE = "".join(CHOICE.choices([chr(0x4E00 + number) for number in range(3000)], k=4000))


def edited(rate: float) -> str:
    return "".join(CHOICE.choice("甲乙丙丁") if CHOICE.random() < rate else sign for sign in BASE)


def jaccard(one: str, other: str) -> float:
    first, second = ({text[place : place + GRAM] for place in range(len(text) - GRAM + 1)} for text in (one, other))
    return len(first & second) / len(first | second)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.03, 0.1, 0.5])
def test_signatures_estimate_the_share_of_common_grams(rate: float) -> None:
    other = edited(rate)
    true = jaccard(BASE, other)
    found = np.intersect1d(grams_of(BASE), grams_of(other)).size / np.union1d(grams_of(BASE), grams_of(other)).size
    assert found == pytest.approx(true, abs=1e-9)
    estimate = float((signature(BASE) == signature(other)).mean())
    assert abs(estimate - true) <= 4 * (true * (1 - true) / PERMUTATIONS) ** 0.5 + 1e-9
    meets = bool((band_keys(signature(BASE)[None]) == band_keys(signature(other)[None])).any())
    assert meets if true > 0.85 else true > 0.3 or not meets


def test_white_space_does_not_count_and_short_texts_have_a_gram() -> None:
    assert np.array_equal(grams_of("a b\nc d e f"), grams_of("abcdef"))
    assert len(grams_of("ab")) == len(grams_of("")) == 1 and grams_of("ab") != grams_of("ba")


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [("你好。 世界", "你好。\n世界 ", "spaces"), ("你好，世界!", "你好 世界", "letters"), ("Hello, World", "hello world", "letters")],
)
def test_levels_see_what_they_say(one: str, other: str, level: Level) -> None:
    levels: tuple[Level, ...] = ("exact", "spaces", "letters", "near")
    equal = {name: text_key(one, name) == text_key(other, name) for name in levels}
    assert equal == {name: levels.index(name) >= levels.index(level) for name in levels}
    assert len({text_key(sign, "letters") for sign in ("。", "！", "a", "", "1")}) == 5  # texts of signs alone stay apart
