"""Cheap grades of a document, 0 to 100: how clean it looks, and how hard it is to read. Written beside it, for a curriculum to select by.

In: a text. Out: ``quality`` and ``difficulty``. No model is asked: these are shares of characters, lengths and what zlib makes of the text,
all of them cheaper than tokenizing. Rule: a grade follows from the text alone; truth and usefulness it does not claim to measure.
"""

from __future__ import annotations

import zlib

import numpy as np

from beichen.data.scripts import DIGIT, HAN, LATIN, SIGN, character_kinds, code_points

COLUMNS = {"quality": "|u1", "difficulty": "|u1"}
_SAMPLE = 20_000  # characters that are looked at
_ENDS = np.array([ord(sign) for sign in "。！？!?.；;\n"], np.uint32)


def _make_rare() -> np.ndarray:
    """Han characters outside the 3,755 common ones of GB 2312's first level."""
    rare = np.zeros(1 << 16, bool)
    rare[0x4E00:0xA000] = True
    for row in range(0xB0, 0xD8):
        for cell in range(0xA1, 0xFF):
            common = bytes((row, cell)).decode("gb2312", "ignore")
            if common:
                rare[ord(common)] = False
    return rare


_RARE = _make_rare()


def grade(text: str) -> tuple[int, int]:
    """(quality, difficulty).

    Quality starts at 100 and loses for signs beyond a fifth of the characters, for sameness (zlib makes it more than 4 times smaller), and
    for being shorter than 200 characters. Difficulty is the mean of: rare Han characters and long words; long sentences; little sameness.
    """
    sample = text[:_SAMPLE]
    points = code_points(sample)
    counts = np.bincount(character_kinds(points), minlength=10) / max(1, len(points))
    data = sample.encode()
    sameness = len(data) / len(zlib.compress(data, 1)) if data else 1.0
    wide = counts[HAN] > counts[LATIN]
    quality = 100 - 40 * _ramp(counts[SIGN], 0.2, 0.6) - 40 * _ramp(sameness, 4, 10) - 30 * _ramp(200 - len(text), 0, 200)
    quality -= 20 * _ramp(counts[DIGIT], 0.15, 0.5)
    words = _ramp(float(_RARE[points[points < 1 << 16]].mean()) if len(points) else 0.0, 0.0, 0.1) if wide else _long_words(points)
    sentences = max(1, int(np.isin(points, _ENDS).sum()))
    length = _ramp(len(points) / sentences, 8, 60) if wide else _ramp(len(points) / sentences, 30, 200)
    difficulty = 100 * (words + length + 1 - _ramp(sameness, 1.5, 4)) / 3
    return round(max(0.0, quality)), round(difficulty)


def _long_words(points: np.ndarray) -> float:
    letters = character_kinds(points) == LATIN
    words = max(1, int((letters & ~np.concatenate(([False], letters[:-1]))).sum()))
    return _ramp(float(letters.sum()) / words, 3.5, 7.0)


def _ramp(value: float, low: float, high: float) -> float:
    """0 below ``low``, 1 above ``high``, straight between."""
    return min(1.0, max(0.0, (float(value) - low) / (high - low)))
