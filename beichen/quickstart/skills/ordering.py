"""Naming the larger or smallest of two or three numbers, and sorting four."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from random import Random

from beichen.quickstart.skills.domains import block, combination, mixed_radix
from beichen.quickstart.skills.skill import Exercise, Language, Problem, Skill, exercise, pick_language

_DIRECTIONS = "<>"  # "<": the smaller one, or from small to large


def joined(items: Sequence[object], language: Language) -> str:
    """A list as each language writes it."""
    return ("、" if language == "zh" else ", ").join(map(str, items))


# Pairs below 1000 and triples below 145: about as many of the one as of the other.
_COMPARE_SIZES = (2 * comb(1000, 2), 2 * comb(145, 3))

_COMPARE_QUESTIONS = {
    (">", 2, "zh"): ("{numbers}哪个大？", "{numbers}中较大的是哪个？", "比较{numbers}，大的是几？"),
    (">", 2, "en"): ("Which is larger: {numbers}?", "Name the larger of {numbers}.", "Of {numbers}, which is greater?"),
    ("<", 2, "zh"): ("{numbers}哪个小？", "{numbers}中较小的是哪个？", "比较{numbers}，小的是几？"),
    ("<", 2, "en"): ("Which is smaller: {numbers}?", "Name the smaller of {numbers}.", "Of {numbers}, which is less?"),
    (">", 3, "zh"): ("{numbers}哪个最大？", "{numbers}中最大的是哪个？", "比较{numbers}，最大的是几？"),
    (">", 3, "en"): ("Which is largest: {numbers}?", "Name the largest of {numbers}.", "Of {numbers}, which is greatest?"),
    ("<", 3, "zh"): ("{numbers}哪个最小？", "{numbers}中最小的是哪个？", "比较{numbers}，最小的是几？"),
    ("<", 3, "en"): ("Which is smallest: {numbers}?", "Name the smallest of {numbers}.", "Of {numbers}, which is least?"),
}
_COMPARE_TEXTS = {
    ">": {"zh": "{numbers}中最大的是{answer}。", "en": "The largest of {numbers} is {answer}."},
    "<": {"zh": "{numbers}中最小的是{answer}。", "en": "The smallest of {numbers} is {answer}."},
}


def _compare_problem(index: int) -> Problem:
    three, inside = block(index, _COMPARE_SIZES)
    size = 3 if three else 2
    direction, numbers = mixed_radix(inside, (2, _COMPARE_SIZES[three] // 2))
    return ("compare", _DIRECTIONS[direction], *combination(numbers, size))


def _parts(problem: Problem) -> tuple[str, list[int]]:
    _, direction, *numbers = problem
    assert isinstance(direction, str)
    return direction, [int(number) for number in numbers]


def _compare_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    direction, numbers = _parts(problem)
    answer = str(max(numbers) if direction == ">" else min(numbers))
    rng.shuffle(numbers)
    question = rng.choice(_COMPARE_QUESTIONS[direction, len(numbers), language])
    return exercise(question.format(numbers=joined(numbers, language)), answer, answer=answer)


def _compare_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    direction, numbers = _parts(problem)
    answer = max(numbers) if direction == ">" else min(numbers)
    rng.shuffle(numbers)
    return _COMPARE_TEXTS[direction][language].format(numbers=joined(numbers, language), answer=answer)


def _both_directions(problem: Problem) -> tuple[Problem, ...]:
    kind, _, *numbers = problem
    return tuple((kind, direction, *numbers) for direction in _DIRECTIONS)


COMPARISON = Skill(
    name="comparison",
    title_zh="比较大小",
    title_en="comparison",
    lesson_zh="比较两个数，先看位数，位数多的大；位数相同，就从最高位开始比。",
    lesson_en="To compare numbers, look at their length first; with equal length, compare digits from the left.",
    num_problems=sum(_COMPARE_SIZES),
    guess_baseline=0.45,
    problem=_compare_problem,
    dialogue=_compare_dialogue,
    text=_compare_text,
    reveals=_both_directions,
)

# Four numbers of two digits each.
_SMALLEST, NUM_LISTS = 10, comb(90, 4)
_SORT_SIZES = (2, NUM_LISTS)

SORT_QUESTIONS = {
    ("<", "zh"): ("把{numbers}从小到大排列。", "从小到大排序：{numbers}", "请按升序排列{numbers}。"),
    ("<", "en"): ("Sort {numbers} from small to large.", "Ascending order: {numbers}", "Put {numbers} in increasing order."),
    (">", "zh"): ("把{numbers}从大到小排列。", "从大到小排序：{numbers}", "请按降序排列{numbers}。"),
    (">", "en"): ("Sort {numbers} from large to small.", "Descending order: {numbers}", "Put {numbers} in decreasing order."),
}
_SORT_TEXTS = {
    ("<", "zh"): "{numbers}从小到大是{answer}。",
    ("<", "en"): "{numbers} in increasing order: {answer}.",
    (">", "zh"): "{numbers}从大到小是{answer}。",
    (">", "en"): "{numbers} in decreasing order: {answer}.",
}


def _sort_problem(index: int) -> Problem:
    direction, numbers = mixed_radix(index, _SORT_SIZES)
    return ("sort", _DIRECTIONS[direction], *four_numbers(numbers))


def four_numbers(index: int) -> tuple[int, ...]:
    """List ``index`` of ``NUM_LISTS``, increasing."""
    return tuple(_SMALLEST + number for number in combination(index, 4))


def sorting_problems(numbers: Sequence[int]) -> tuple[Problem, ...]:
    """The problems that a sorted list gives away."""
    return _both_directions(("sort", "<", *sorted(numbers)))


def _sorted(problem: Problem, rng: Random, language: Language) -> tuple[str, str, str]:
    direction, numbers = _parts(problem)
    answer = joined(sorted(numbers, reverse=direction == ">"), language)
    rng.shuffle(numbers)
    return direction, joined(numbers, language), answer


def _sort_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    direction, numbers, answer = _sorted(problem, rng, language)
    return exercise(rng.choice(SORT_QUESTIONS[direction, language]).format(numbers=numbers), answer, answer=answer)


def _sort_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    direction, numbers, answer = _sorted(problem, rng, language)
    return _SORT_TEXTS[direction, language].format(numbers=numbers, answer=answer)


SORTING = Skill(
    name="sorting",
    title_zh="排序",
    title_en="sorting",
    lesson_zh="排序时先找出最小或最大的数，再从剩下的数里继续找。",
    lesson_en="To sort, pick the smallest or the largest number first, then go on with those that are left.",
    num_problems=_SORT_SIZES[0] * _SORT_SIZES[1],
    guess_baseline=0.05,
    problem=_sort_problem,
    dialogue=_sort_dialogue,
    text=_sort_text,
    reveals=_both_directions,
)
