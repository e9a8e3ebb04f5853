"""Small tables that workings rest on: digit sums, remainders by seven, weekdays, months, numerals, words and units.

They hold no problem of any skill (those start beyond the tables), so nothing held out can stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from beichen.quickstart.skills.calendar import MONTH_LENGTHS, WEEKDAYS, month_name
from beichen.quickstart.skills.skill import Language, pick_language
from beichen.quickstart.skills.words import WORDS

_LINES = 4


def _digit_sums(rng: Random, language: Language) -> str:
    left = rng.randrange(10)
    carried = rng.random() < 0.5
    facts = [f"{left}+{right}{'+1' if carried else ''}={left + right + carried}" for right in range(10)]
    return _joined(facts, language)


def _digit_differences(rng: Random, language: Language) -> str:
    right = rng.randrange(10)
    borrowed = rng.random() < 0.5
    lowest = right + borrowed
    facts = [f"{left}-{right}{'-1' if borrowed else ''}={left - lowest}" for left in range(lowest, lowest + 10)]
    return _joined(facts, language)


def _remainders(rng: Random, language: Language) -> str:
    start = rng.randrange(90)
    word = "余" if language == "zh" else " leaves "
    return _joined([f"{number}÷7{word}{number % 7}" for number in range(start, start + 8)], language)


def _weekday_steps(rng: Random, language: Language) -> str:
    names = WEEKDAYS[language]
    day, sign = rng.randrange(7), rng.choice((1, -1))
    facts = []
    for steps in range(7):
        then = names[(day + sign * steps) % 7]
        if language == "zh":
            facts.append(f"{names[day]}往{'后' if sign == 1 else '前'}{steps}天是{then}")
        else:
            facts.append(f"{names[day]} {'forward' if sign == 1 else 'back'} {steps} is {then}")
    return _joined(facts, language)


def _months(rng: Random, language: Language) -> str:
    chosen = sorted(rng.sample(range(12), 6))
    if language == "zh":
        return _joined([f"{month_name(month, language)}有{MONTH_LENGTHS[month]}天" for month in chosen], language)
    return _joined([f"{month_name(month, language)} has {MONTH_LENGTHS[month]} days" for month in chosen], language)


def _dictionary(rng: Random, language: Language) -> str:
    return _joined(
        [f"{chinese} {english}" if language == "zh" else f"{english} {chinese}" for chinese, english in rng.sample(WORDS, 8)], language
    )


_TABLES: tuple[Callable[[Random, Language], str], ...] = (
    _digit_sums,
    _digit_differences,
    _remainders,
    _weekday_steps,
    _months,
    _dictionary,
)


def _joined(facts: list[str], language: Language) -> str:
    return "，".join(facts) + "。" if language == "zh" else ", ".join(facts) + "."


def table_page(rng: Random) -> str:
    """Some lines of one table."""
    language = pick_language(rng)
    table = rng.choice(_TABLES)
    return "\n".join(table(rng, language) for _ in range(_LINES))
