"""Second questions that make sense only with the first answer: going on from a sum, and asking about a sorted list."""

from __future__ import annotations

from random import Random

from beichen.quickstart.skills.arithmetic import SUM_QUESTIONS, calculation, columns_of, result_of, sum_of
from beichen.quickstart.skills.columns import add_in_columns
from beichen.quickstart.skills.domains import mixed_radix, unordered_pair
from beichen.quickstart.skills.ordering import NUM_LISTS, SORT_QUESTIONS, four_numbers, joined, sorting_problems
from beichen.quickstart.skills.skill import Exercise, Problem, Skill, exercise, pick_language, with_working

# Sums: two numbers from 10 to 99, then a change by 2 to 20, so a difference stays at least 0.
_FIRST_LOW, _FIRST_COUNT = 10, 90
_SECOND_LOW, _SECOND_COUNT = 2, 19
_SUM_SIZES = (_FIRST_COUNT * (_FIRST_COUNT + 1) // 2, 2, _SECOND_COUNT)

_CHANGES = {
    ("+", "zh"): ("再加{c}呢？", "再加上{c}是多少？", "把结果加{c}。"),
    ("+", "en"): ("And plus {c}?", "Now add {c} to that.", "Add {c} to the result."),
    ("-", "zh"): ("再减{c}呢？", "再减去{c}是多少？", "把结果减{c}。"),
    ("-", "en"): ("And minus {c}?", "Now take {c} from that.", "Subtract {c} from the result."),
}
_CHAINS = {
    "zh": "先算{a}+{b}：{working}得{s}。再算{s}{sign}{c}：{more}得{t}。",
    "en": "First {a}+{b}: {working} That is {s}. Then {s}{sign}{c}: {more} That is {t}.",
}
_RESUMED = {"zh": "{s}{sign}{c}：{more}", "en": "{s}{sign}{c}: {more}"}


def _sum_problem(index: int) -> Problem:
    pair, sign, change = mixed_radix(index, _SUM_SIZES)
    low, high = unordered_pair(pair)
    return ("sum and change", low + _FIRST_LOW, high + _FIRST_LOW, "+-"[sign], change + _SECOND_LOW)


def _chain(problem: Problem, rng: Random) -> tuple[int, int, int, str, int, int]:
    _, a, b, sign, c = problem
    assert isinstance(a, int) and isinstance(b, int) and isinstance(sign, str) and isinstance(c, int)
    if rng.random() < 0.5:
        a, b = b, a
    return a, b, a + b, sign, c, result_of(a + b, sign, c)


def _sum_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    a, b, s, sign, c, t = _chain(problem, rng)
    working = _RESUMED[language].format(s=s, sign=sign, c=c, more=columns_of(s, sign, c, language))
    return exercise(
        rng.choice(SUM_QUESTIONS[language]).format(a=a, b=b),
        with_working(language, add_in_columns(a, b, language), str(s)),
        rng.choice(_CHANGES[sign, language]).format(c=c),
        with_working(language, working, str(t)),
        answer=str(t),
    )


def _sum_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    a, b, s, sign, c, t = _chain(problem, rng)
    working, more = add_in_columns(a, b, language), columns_of(s, sign, c, language)
    return _CHAINS[language].format(a=a, b=b, s=s, sign=sign, c=c, t=t, working=working, more=more)


def _sum_reveals(problem: Problem) -> tuple[Problem, ...]:
    a, b, s, sign, c, _ = _chain(problem, Random(0))
    return problem, sum_of(a, b), calculation(s, sign, c)


FOLLOW_UP_SUM = Skill(
    name="follow_up_sum",
    title_zh="接着上一题算",
    title_en="going on from a result",
    lesson_zh="接着算的时候，先记住上一步的结果，再用它做下一步。",
    lesson_en="To go on from a result, keep it in mind and use it for the next step.",
    num_problems=_SUM_SIZES[0] * _SUM_SIZES[1] * _SUM_SIZES[2],
    guess_baseline=0.02,
    problem=_sum_problem,
    dialogue=_sum_dialogue,
    text=_sum_text,
    reveals=_sum_reveals,
)

# Lists: sort four numbers of two digits, then name one place of the result.
_PLACES = {
    "zh": (("第一个", "第1个"), ("第二个", "第2个"), ("第三个", "第3个"), ("最后一个", "第四个")),
    "en": (("first", "1st"), ("second", "2nd"), ("third", "3rd"), ("last", "fourth")),
}
_PLACE_QUESTIONS = {
    "zh": ("{place}是几？", "其中{place}数是多少？", "{place}呢？"),
    "en": ("Which is the {place}?", "What is the {place} number of these?", "And the {place} one?"),
}
_PLACE_TEXTS = {"zh": "{sorted}这几个数里，{place}是{answer}。", "en": "Of {sorted}, the {place} is {answer}."}
_LIST_SIZES = (2, 4, NUM_LISTS)  # direction, place, list


def _list_problem(index: int) -> Problem:
    direction, place, numbers = mixed_radix(index, _LIST_SIZES)
    return ("sort and name", "<>"[direction], place, *four_numbers(numbers))


def _list_parts(problem: Problem) -> tuple[str, int, list[int]]:
    _, direction, place, *numbers = problem
    assert isinstance(direction, str) and isinstance(place, int)
    return direction, place, sorted((int(number) for number in numbers), reverse=direction == ">")


def _list_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    direction, place, ordered = _list_parts(problem)
    given = rng.sample(ordered, len(ordered))
    name = rng.choice(_PLACES[language][place])
    answer = str(ordered[place])
    return exercise(
        rng.choice(SORT_QUESTIONS[direction, language]).format(numbers=joined(given, language)),
        joined(ordered, language),
        rng.choice(_PLACE_QUESTIONS[language]).format(place=name),
        answer,
        answer=answer,
    )


def _list_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    _, place, ordered = _list_parts(problem)
    name = rng.choice(_PLACES[language][place])
    return _PLACE_TEXTS[language].format(sorted=joined(ordered, language), place=name, answer=ordered[place])


def _list_reveals(problem: Problem) -> tuple[Problem, ...]:
    return problem, *sorting_problems(_list_parts(problem)[2])


FOLLOW_UP_LIST = Skill(
    name="follow_up_list",
    title_zh="追问排序结果",
    title_en="asking about a sorted list",
    lesson_zh="把几个数排好以后，就可以说出第几个是多少。",
    lesson_en="Once numbers are sorted, one can name the first, the second or the last of them.",
    num_problems=_LIST_SIZES[0] * _LIST_SIZES[1] * _LIST_SIZES[2],
    guess_baseline=0.3,
    problem=_list_problem,
    dialogue=_list_dialogue,
    text=_list_text,
    reveals=_list_reveals,
    weight=0.6,
)
