"""Rows of digits or words: copying one, reversing one, and counting the animals in it."""

from __future__ import annotations

from itertools import accumulate
from random import Random

from beichen.quickstart.skills.domains import arrangement, block, number_of_arrangements
from beichen.quickstart.skills.ordering import joined
from beichen.quickstart.skills.skill import Exercise, Language, Problem, Skill, exercise, pick_language, with_working
from beichen.quickstart.skills.words import WORDS, word

# Numbers of four and five digits, then (words in a row, how many words they come from).
_NUM_NUMBERS = 99_999 - 999
_WORD_ROWS = ((3, len(WORDS)), (4, 24))
_SIZES = (_NUM_NUMBERS, *(number_of_arrangements(population, size) for size, population in _WORD_ROWS))

_COPY_QUESTIONS = {
    "zh": ("请重复：{row}", "照抄一遍：{row}", "跟我说：{row}", "复制：{row}"),
    "en": ("Repeat: {row}", "Copy this: {row}", "Say after me: {row}", "Write again: {row}"),
}
_REVERSE_QUESTIONS = {
    "zh": ("倒过来写：{row}", "把{row}倒过来。", "反转：{row}", "从后往前写：{row}"),
    "en": ("Reverse: {row}", "Write {row} backwards.", "Turn around: {row}", "From back to front: {row}"),
}
_COPY_TEXTS = {"zh": "{row}，再写一遍是{row}。", "en": "{row}, once more: {row}."}
_REVERSE_TEXTS = {"zh": "{row}倒过来是{back}。", "en": "{row} backwards is {back}."}


def _row(index: int) -> tuple[int, ...]:
    """A number alone, or the numbers of several words."""
    kind, inside = block(index, _SIZES)
    if kind == 0:
        return (1000 + inside,)
    size, population = _WORD_ROWS[kind - 1]
    return arrangement(inside, population, size)


def _copy_problem(index: int) -> Problem:
    return ("copy", *_row(index))


def _reverse_problem(index: int) -> Problem:
    return ("reverse", *_row(index))


def _written(problem: Problem, language: Language) -> tuple[str, str]:
    """The row forwards and backwards."""
    _, *numbers = problem
    if len(numbers) == 1:
        digits = str(numbers[0])
        return digits, digits[::-1]
    words = [word(int(number), language) for number in numbers]
    return joined(words, language), joined(words[::-1], language)


def _copy_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    row, _ = _written(problem, language)
    return exercise(rng.choice(_COPY_QUESTIONS[language]).format(row=row), row, answer=row)


def _reverse_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    row, back = _written(problem, language)
    return exercise(rng.choice(_REVERSE_QUESTIONS[language]).format(row=row), back, answer=back)


def _copy_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    row, _ = _written(problem, language)
    return _COPY_TEXTS[language].format(row=row)


def _reverse_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    row, back = _written(problem, language)
    return _REVERSE_TEXTS[language].format(row=row, back=back)


def _reverse_reveals(problem: Problem) -> tuple[Problem, ...]:
    """A row and its mirror image give each other away."""
    kind, *numbers = problem
    if len(numbers) > 1:
        return problem, (kind, *reversed(numbers))
    return problem, (kind, int(str(numbers[0])[::-1]))


COPYING = Skill(
    name="copying",
    title_zh="复述",
    title_en="copying",
    lesson_zh="复述就是把原来的内容原样再说一遍，一个也不多，一个也不少。",
    lesson_en="To copy is to say the same thing again, with nothing added and nothing left out.",
    num_problems=sum(_SIZES),
    guess_baseline=0.01,
    problem=_copy_problem,
    dialogue=_copy_dialogue,
    text=_copy_text,
    weight=0.5,
)

REVERSING = Skill(
    name="reversing",
    title_zh="倒序",
    title_en="reversing",
    lesson_zh="倒过来写，就是从最后一个开始，一直写到第一个。",
    lesson_en="To reverse a row, begin with the last item and end with the first.",
    num_problems=sum(_SIZES),
    guess_baseline=0.01,
    problem=_reverse_problem,
    dialogue=_reverse_dialogue,
    text=_reverse_text,
    reveals=_reverse_reveals,
    weight=0.7,
)

# Counting: rows of distinct things, of which some are animals. (Length, how many things to choose from): about as many rows of each.
_COUNT_ROWS = ((4, 24), (5, 14), (6, 10))
_COUNT_SIZES = tuple(number_of_arrangements(population, length) for length, population in _COUNT_ROWS)
_NUM_ANIMALS = 12  # the words before this number
_COUNT_QUESTIONS = {
    "zh": ("{row}里有几种动物？", "数一数{row}中的动物。", "{row}，有几个是动物？"),
    "en": ("How many animals in {row}?", "Count the animals: {row}.", "{row}: how many are animals?"),
}
_COUNT_WORKING = {"zh": "{tally}。", "en": "{tally}."}
_COUNT_TEXTS = {"zh": "{row}里有{answer}种动物。", "en": "In {row}, {answer} are animals."}


def _count_problem(index: int) -> Problem:
    """The numbers of the words in the row; half of what they are chosen from are animals."""
    number, inside = block(index, _COUNT_SIZES)
    length, population = _COUNT_ROWS[number]
    chosen = (divmod(thing, 2) for thing in arrangement(inside, population, length))
    return ("count", *(half + _NUM_ANIMALS * other for half, other in chosen))


def _counted(problem: Problem, language: Language) -> dict[str, str]:
    """The row, its count, and the tally: each thing with what it adds and the sum so far."""
    _, *numbers = problem
    words = [word(int(number), language) for number in numbers]
    animals = [int(int(number) < _NUM_ANIMALS) for number in numbers]
    sums = accumulate(animals)
    tally = joined([f"{name} +{animal}={total}" for name, animal, total in zip(words, animals, sums, strict=True)], language)
    return {"row": joined(words, language), "answer": str(sum(animals)), "tally": tally}


def _count_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    words = _counted(problem, language)
    reply = with_working(language, _COUNT_WORKING[language].format(**words), words["answer"])
    return exercise(rng.choice(_COUNT_QUESTIONS[language]).format(**words), reply, answer=words["answer"])


def _count_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    return _COUNT_TEXTS[language].format(**_counted(problem, language))


COUNTING = Skill(
    name="counting",
    title_zh="数动物",
    title_en="counting animals",
    lesson_zh="数动物时，从头到尾看一遍，是动物就加一，不是就加零。",
    lesson_en="To count the animals, go through the row once: add one for each animal and nothing for the rest.",
    num_problems=sum(_COUNT_SIZES),
    guess_baseline=0.42,
    problem=_count_problem,
    dialogue=_count_dialogue,
    text=_count_text,
)
