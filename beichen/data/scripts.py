"""Which scripts a text is written in, counted over its characters at once; and whether it was decoded wrongly.

In: a text. Out: the share of its letters in each language that a script gives away; kana claim the Han characters beside them.
"""

from __future__ import annotations

import re

import numpy as np

HAN, LATIN, KANA, HANGUL, CYRILLIC, OTHER, DIGIT, SPACE, SIGN = range(1, 10)
_RANGES = (
    (HAN, 0x3400, 0x4DBF), (HAN, 0x4E00, 0x9FFF), (HAN, 0xF900, 0xFAFF), (LATIN, 0x41, 0x5A), (LATIN, 0x61, 0x7A), (LATIN, 0xC0, 0x24F),
    (LATIN, 0xFF21, 0xFF3A), (LATIN, 0xFF41, 0xFF5A), (KANA, 0x3041, 0x30FF), (KANA, 0xFF66, 0xFF9F), (HANGUL, 0xAC00, 0xD7A3),
    (HANGUL, 0x1100, 0x11FF), (CYRILLIC, 0x400, 0x52F), (OTHER, 0x250, 0x3FF), (OTHER, 0x530, 0x10FF), (OTHER, 0x1200, 0x1FFF),
    (DIGIT, 0x30, 0x39), (SPACE, 0x09, 0x0D), (SPACE, 0x20, 0x20), (SPACE, 0xA0, 0xA0), (SPACE, 0x2028, 0x2029), (SPACE, 0x3000, 0x3000),
)  # fmt: skip
_SAMPLE = 50_000  # characters that are looked at


def _make_table() -> np.ndarray:
    table = np.full(1 << 16, SIGN, np.uint8)
    for kind, first, last in _RANGES:
        table[first : last + 1] = kind
    return table


_TABLE = _make_table()


def code_points(text: str) -> np.ndarray:
    """The text's characters as numbers. [characters] uint32"""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def character_kinds(points: np.ndarray) -> np.ndarray:
    """The kind of each character (``HAN`` and so on). [characters] uint8"""
    kinds = _TABLE[np.minimum(points, 0xFFFF)]
    return np.where((points >= 0x20000) & (points <= 0x3FFFF), np.uint8(HAN), kinds)


def script_shares(text: str) -> dict[str, float]:
    """Share of the letters in each language; empty for a text without letters. Han characters weigh as two letters, as wide as they are."""
    counts = np.bincount(character_kinds(code_points(text[:_SAMPLE])), minlength=10).astype(float)
    han, kana = 2 * counts[HAN], 2 * counts[KANA]
    japanese = kana > 0.1 * (han + kana)
    shares = {
        "zh": 0.0 if japanese else han,
        "ja": han + kana if japanese else kana,
        "en": counts[LATIN],
        "ko": 2 * counts[HANGUL],
        "ru": counts[CYRILLIC],
        "other": counts[OTHER],
    }
    total = sum(shares.values())
    return {name: value / total for name, value in shares.items()} if total else {}


_LATIN_1 = re.compile("[\x80-\xff]")


def looks_garbled(text: str) -> bool:
    """Whether the text is UTF-8 that was read as GBK, or GBK that was read as Latin-1.

    Real Chinese written in GB18030 is hardly ever valid UTF-8; garbled text is, nearly all of it.
    """
    sample = text[:4000]
    foreign = [character for character in sample if ord(character) > 0x7F]
    if len(foreign) < 8:
        return False
    written = "".join(foreign).encode("gb18030", "ignore")
    back = [sign for sign in written.decode("utf-8", "ignore") if ord(sign) > 0x7F]
    if len("".join(back).encode()) > 0.6 * len(written):
        return True
    latin = _LATIN_1.findall(sample)
    if len(latin) < 0.4 * len(sample.replace(" ", "")):
        return False
    decoded = "".join(latin).encode("latin-1").decode("gb18030", "ignore")
    return sum("\u4e00" <= sign <= "\u9fff" for sign in decoded) > 0.3 * len(latin)
