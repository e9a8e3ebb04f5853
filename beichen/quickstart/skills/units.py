"""Converting units: from the large to the small one and back, and lengths of metres and centimetres together."""

from __future__ import annotations

from random import Random

from beichen.quickstart.skills.domains import block, mixed_radix
from beichen.quickstart.skills.skill import Exercise, Language, Problem, Skill, exercise, pick_language

# (large, small) in Chinese and English, and how many small ones make a large one.
_UNITS = (
    (("千米", "米"), ("km", "m"), 1000),
    (("米", "厘米"), ("m", "cm"), 100),
    (("厘米", "毫米"), ("cm", "mm"), 10),
    (("千克", "克"), ("kg", "g"), 1000),
    (("吨", "千克"), ("t", "kg"), 1000),
    (("升", "毫升"), ("L", "mL"), 1000),
    (("元", "角"), ("yuan", "jiao"), 10),
    (("元", "分"), ("yuan", "fen"), 100),
)
_MAXIMUM = 500
# Down to the smaller unit, up to the larger one, and metres with centimetres.
_SIZES = (len(_UNITS) * _MAXIMUM, len(_UNITS) * _MAXIMUM, 99 * 99)

_QUESTIONS = {
    "zh": ("{given}是多少{unit}？", "{given}等于多少{unit}？", "把{given}换算成{unit}。", "{given}合多少{unit}？"),
    "en": ("How many {unit} is {given}?", "Convert {given} to {unit}.", "What is {given} in {unit}?", "{given} = ? {unit}"),
}
_TEXTS = {"zh": "{given}等于{answer}。", "en": "{given} is {answer}."}


def _problem(index: int) -> Problem:
    kind, inside = block(index, _SIZES)
    if kind == 2:
        metres, centimetres = mixed_radix(inside, (99, 99))
        return ("metres and centimetres", metres + 1, centimetres + 1)
    unit, amount = mixed_radix(inside, (len(_UNITS), _MAXIMUM))
    return (("to smaller", "to larger")[kind], unit, amount + 1)


def _amount(number: int, unit: str, language: Language) -> str:
    return f"{number}{unit}" if language == "zh" else f"{number} {unit}"


def _words(problem: Problem, language: Language) -> dict[str, str]:
    kind, first, second = problem
    assert isinstance(first, int) and isinstance(second, int)
    if kind == "metres and centimetres":
        metre, centimetre = ("米", "厘米") if language == "zh" else ("m", "cm")
        given = (_amount(first, metre, language), _amount(second, centimetre, language))
        joined = "".join(given) if language == "zh" else " ".join(given)
        return {"given": joined, "unit": centimetre, "answer": _amount(100 * first + second, centimetre, language)}
    chinese, english, factor = _UNITS[first]
    large, small = chinese if language == "zh" else english
    many, few = _amount(second * factor, small, language), _amount(second, large, language)
    if kind == "to smaller":
        return {"given": few, "unit": small, "answer": many}
    return {"given": many, "unit": large, "answer": few}


def _dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    words = _words(problem, language)
    return exercise(rng.choice(_QUESTIONS[language]).format(**words), words["answer"], answer=words["answer"])


def _text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    return _TEXTS[language].format(**_words(problem, language))


def _reveals(problem: Problem) -> tuple[Problem, ...]:
    kind, *rest = problem
    return (problem,) if kind == "metres and centimetres" else (("to smaller", *rest), ("to larger", *rest))


UNITS = Skill(
    name="units",
    title_zh="单位换算",
    title_en="units",
    lesson_zh="换算单位时，大单位化成小单位要乘，小单位化成大单位要除：1千米等于1000米，1米等于100厘米。",
    lesson_en="To convert to a smaller unit, multiply; to a larger one, divide: a kilometre has 1000 m, a metre has 100 cm.",
    num_problems=sum(_SIZES),
    guess_baseline=0.01,
    problem=_problem,
    dialogue=_dialogue,
    text=_text,
    reveals=_reveals,
)
