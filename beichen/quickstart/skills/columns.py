"""Column arithmetic in words: the working that addition, subtraction and their follow-ups show.

Every column is one small fact (two digits, and the carry or borrow as ``+1`` or ``-1``), written from the ones upward;
a carry is seen in a two-digit result, a borrow in a two-digit minuend. So each step needs only the step before it.
"""

from __future__ import annotations

from beichen.quickstart.skills.skill import Language

_COLUMNS = {"zh": ("个位", "十位", "百位", "千位"), "en": ("ones ", "tens ", "hundreds ", "thousands ")}
_COMMA = {"zh": "，", "en": ", "}
_STOP = {"zh": "。", "en": "."}


def add_in_columns(a: int, b: int, language: Language) -> str:
    """47 and 85: ``个位7+5=12，十位4+8+1=13。``"""
    steps, carry = [], 0
    names = _COLUMNS[language]
    for place in range(len(str(max(a, b)))):
        (a, left), (b, right) = divmod(a, 10), divmod(b, 10)
        total = left + right + carry
        steps.append(f"{names[place]}{left}+{right}{'+1' if carry else ''}={total}")
        carry = total >= 10
    return _COMMA[language].join(steps) + _STOP[language]


def subtract_in_columns(a: int, b: int, language: Language) -> str:
    """53 and 17, the first at least as large: ``个位13-7=6，十位5-1-1=3。``"""
    steps, borrow = [], 0
    names = _COLUMNS[language]
    for place in range(len(str(a))):
        (a, left), (b, right) = divmod(a, 10), divmod(b, 10)
        minuend = left + 10 if left < right + borrow else left
        steps.append(f"{names[place]}{minuend}-{right}{'-1' if borrow else ''}={minuend - right - borrow}")
        borrow = int(minuend > left)
    return _COMMA[language].join(steps) + _STOP[language]
