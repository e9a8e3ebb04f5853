"""Translating three everyday words from Chinese to English or back."""

from __future__ import annotations

from math import comb
from random import Random

from beichen.quickstart.skills.domains import combination, mixed_radix
from beichen.quickstart.skills.ordering import joined
from beichen.quickstart.skills.skill import Exercise, Problem, Skill, exercise
from beichen.quickstart.skills.words import WORDS, word

_SIZE = 3
_SIZES = (2, comb(len(WORDS), _SIZE))
_TARGETS = ("to English", "to Chinese")

_QUESTIONS = {
    "to English": ("{words}用英语怎么说？", "把{words}翻译成英文。", "{words}的英文是什么？", "Translate {words} into English."),
    "to Chinese": ("{words}用中文怎么说？", "把{words}翻译成中文。", "Translate {words} into Chinese.", "What is {words} in Chinese?"),
}
_TEXTS = ("{chinese}的英文是{english}。", "{english}的中文是{chinese}。", "{english} in Chinese: {chinese}.", "{chinese} means {english}.")


def _problem(index: int) -> Problem:
    target, words = mixed_radix(index, _SIZES)
    return ("translation", _TARGETS[target], *combination(words, _SIZE))


def _written(problem: Problem, rng: Random) -> tuple[str, str]:
    numbers = [int(number) for number in problem[2:]]
    rng.shuffle(numbers)
    return joined([word(number, "zh") for number in numbers], "zh"), joined([word(number, "en") for number in numbers], "en")


def _dialogue(problem: Problem, rng: Random) -> Exercise:
    target = str(problem[1])
    chinese, english = _written(problem, rng)
    given, answer = (chinese, english) if target == "to English" else (english, chinese)
    return exercise(rng.choice(_QUESTIONS[target]).format(words=given), answer, answer=answer)


def _text(problem: Problem, rng: Random) -> str:
    chinese, english = _written(problem, rng)
    return rng.choice(_TEXTS).format(chinese=chinese, english=english)


def _reveals(problem: Problem) -> tuple[Problem, ...]:
    kind, _, *words = problem
    return tuple((kind, target, *words) for target in _TARGETS)


TRANSLATION = Skill(
    name="translation",
    title_zh="词语翻译",
    title_en="translation of words",
    lesson_zh="每个词在中文和英文里各有一个说法，按顺序一个一个地翻译。",
    lesson_en="Every word here has a name in Chinese and one in English; translate them one by one, in order.",
    num_problems=_SIZES[0] * _SIZES[1],
    guess_baseline=0.01,
    problem=_problem,
    dialogue=_dialogue,
    text=_text,
    reveals=_reveals,
    weight=0.5,
)
