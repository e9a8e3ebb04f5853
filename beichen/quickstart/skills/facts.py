"""Looking up one of three stated facts: who is how old, who is where, which colour someone likes, how many books someone has.

The answer repeats the fact as a short sentence, and the whole sentence must match.
"""

from __future__ import annotations

from math import comb
from random import Random

from beichen.quickstart.skills.domains import arrangement, combination, mixed_radix, number_of_arrangements
from beichen.quickstart.skills.skill import Exercise, Language, Problem, Skill, exercise, pick_language
from beichen.quickstart.skills.words import AGES, BOOKS, COLOURS, NAMES, PLACES

_STATED = 3
FACT_KINDS = ("age", "place", "colour", "books")
_VALUES = {
    ("age", "zh"): AGES,
    ("age", "en"): AGES,
    ("place", "zh"): PLACES["zh"],
    ("place", "en"): PLACES["en"],
    ("colour", "zh"): COLOURS["zh"],
    ("colour", "en"): COLOURS["en"],
    ("books", "zh"): BOOKS,
    ("books", "en"): BOOKS,
}
_FACTS = {
    ("age", "zh"): "{name}{value}岁",
    ("age", "en"): "{name} is {value}",
    ("place", "zh"): "{name}在{value}",
    ("place", "en"): "{name} is at the {value}",
    ("colour", "zh"): "{name}喜欢{value}",
    ("colour", "en"): "{name} likes {value}",
    ("books", "zh"): "{name}有{value}本书",
    ("books", "en"): "{name} has {value} books",
}
_QUESTIONS = {
    ("age", "zh"): ("{name}几岁？", "{name}多大？", "请问{name}几岁？"),
    ("age", "en"): ("How old is {name}?", "What is the age of {name}?", "Tell me the age of {name}."),
    ("place", "zh"): ("{name}在哪里？", "{name}在什么地方？", "请问{name}在哪里？"),
    ("place", "en"): ("Where is {name}?", "In which place is {name}?", "Tell me where {name} is."),
    ("colour", "zh"): ("{name}喜欢什么颜色？", "{name}喜欢哪种颜色？", "请问{name}喜欢什么颜色？"),
    ("colour", "en"): ("Which colour does {name} like?", "What colour is liked by {name}?", "Tell me the colour that {name} likes."),
    ("books", "zh"): ("{name}有几本书？", "{name}有多少本书？", "请问{name}有几本书？"),
    ("books", "en"): ("How many books has {name}?", "How many books does {name} have?", "Tell me how many books {name} has."),
}
_COMMA = {"zh": "，", "en": ", "}
_STOP = {"zh": "。", "en": "."}
_BETWEEN = {"zh": "", "en": " "}
_SIZES = (len(FACT_KINDS), comb(len(NAMES["zh"]), _STATED), number_of_arrangements(len(AGES), _STATED), _STATED)


def _problem(index: int) -> Problem:
    kind, names, values, asked = mixed_radix(index, _SIZES)
    return ("fact", FACT_KINDS[kind], asked, *combination(names, _STATED), *arrangement(values, len(AGES), _STATED))


def fact_in_words(kind: str, name: int, value: int, language: Language) -> str:
    """One fact: what kind, which person, which of the twelve values."""
    return _FACTS[kind, language].format(name=NAMES[language][name], value=_VALUES[kind, language][value])


def _words(problem: Problem, rng: Random, language: Language) -> tuple[str, str, str]:
    """The facts in some order, the question, and the fact that answers it."""
    _, kind, asked, *numbers = problem
    assert isinstance(kind, str) and isinstance(asked, int)
    names, values = numbers[:_STATED], numbers[_STATED:]
    facts = [fact_in_words(kind, int(name), int(value), language) for name, value in zip(names, values, strict=True)]
    question = rng.choice(_QUESTIONS[kind, language]).format(name=NAMES[language][int(names[asked])])
    answer = facts[asked] + _STOP[language]
    rng.shuffle(facts)
    return _COMMA[language].join(facts) + _STOP[language], question, answer


def _dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    facts, question, answer = _words(problem, rng, language)
    return exercise(f"{facts}{_BETWEEN[language]}{question}", answer, answer=answer)


def _text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    return _BETWEEN[language].join(_words(problem, rng, language))


FACTS = Skill(
    name="facts",
    title_zh="查找已知事实",
    title_en="stated facts",
    lesson_zh="读一段话，记住每个人的情况，再回答问题；答案就在话里。",
    lesson_en="Read what is said about each person, then answer: the answer stands in the text.",
    num_problems=_SIZES[0] * _SIZES[1] * _SIZES[2] * _SIZES[3],
    guess_baseline=0.4,
    problem=_problem,
    dialogue=_dialogue,
    text=_text,
    weight=2.2,
)
