"""Pages that state several things and repeat them in another order: dense practice in looking back.

Facts about four to eight people or freshly made-up pairs of words, said once and then twice more, shuffled. A skill's problem
states exactly three facts, so none stands here.
"""

from __future__ import annotations

from random import Random

from beichen.quickstart.skills.facts import FACT_KINDS, fact_in_words
from beichen.quickstart.skills.skill import Language, pick_language
from beichen.quickstart.skills.words import NAMES, WORDS, word

_ROUNDS = 2
_FEWEST, _MOST = 4, 8


def _facts(rng: Random, language: Language) -> list[str]:
    """Facts of one kind about several people; values may repeat, names do not."""
    kind = rng.choice(FACT_KINDS)
    people = rng.sample(range(len(NAMES[language])), rng.randrange(_FEWEST, _MOST + 1))
    return [fact_in_words(kind, name, rng.randrange(12), language) for name in people]


def _pairs(rng: Random, language: Language) -> list[str]:
    """A made-up code: each word stands for a number or for another word."""
    count = rng.randrange(_FEWEST, _MOST + 1)
    keys = rng.sample(range(len(WORDS)), 2 * count)
    values = [str(rng.randrange(10, 100)) if rng.random() < 0.5 else word(value, language) for value in keys[count:]]
    equal = "是" if language == "zh" else " is "
    return [f"{word(key, language)}{equal}{value}" for key, value in zip(keys[:count], values, strict=True)]


def recall_page(rng: Random) -> str:
    """Three little lists, each said in one order and again in others."""
    lines = []
    for _ in range(3):
        language = pick_language(rng)
        stated = _facts(rng, language) if rng.random() < 0.7 else _pairs(rng, language)
        comma, stop = ("，", "。") if language == "zh" else (", ", ".")
        for _ in range(1 + _ROUNDS):
            lines.append(comma.join(stated) + stop)
            rng.shuffle(stated)
    return "\n".join(lines)
