"""Sums and differences of numbers up to 999 in digits, with the columns as working."""

from __future__ import annotations

from random import Random

from beichen.quickstart.skills.columns import add_in_columns, subtract_in_columns
from beichen.quickstart.skills.domains import unordered_pair
from beichen.quickstart.skills.skill import Exercise, Language, Problem, Skill, exercise, pick_language, with_working

# Pairs below 1000 whose larger number is 20 or more: smaller ones are the tables that every column of a working uses.
_LIMIT, _TABLES = 1000, 20
_FIRST_PAIR = _TABLES * (_TABLES + 1) // 2
_NUM_PAIRS = _LIMIT * (_LIMIT + 1) // 2 - _FIRST_PAIR

SUM_QUESTIONS = {
    "zh": ("{a}+{b}=?", "{a}加{b}等于多少？", "计算{a}+{b}", "{a}与{b}的和是多少？", "请问{a}加上{b}是多少？", "{a} + {b}等于几？"),
    "en": (
        "{a}+{b}=?",
        "What is {a} plus {b}?",
        "Compute {a}+{b}",
        "Add {a} and {b}.",
        "What is the sum of {a} and {b}?",
        "What is {a} + {b}?",
    ),
}
_DIFFERENCE_QUESTIONS = {
    "zh": ("{a}-{b}=?", "{a}减{b}等于多少？", "计算{a}-{b}", "{a}与{b}的差是多少？", "请问{a}减去{b}是多少？", "{a} - {b}等于几？"),
    "en": (
        "{a}-{b}=?",
        "What is {a} minus {b}?",
        "Compute {a}-{b}",
        "Subtract {b} from {a}.",
        "What is the difference of {a} and {b}?",
        "What is {a} - {b}?",
    ),
}
_STATEMENTS = {
    ("+", "zh"): ("{a}+{b}：{working}所以{a}+{b}={c}。", "{a}加{b}得{c}：{working}"),
    ("+", "en"): ("{a}+{b}: {working} So {a}+{b}={c}.", "{a} plus {b} is {c}: {working}"),
    ("-", "zh"): ("{a}-{b}：{working}所以{a}-{b}={c}。", "{a}减{b}得{c}：{working}"),
    ("-", "en"): ("{a}-{b}: {working} So {a}-{b}={c}.", "{a} minus {b} is {c}: {working}"),
}


def _sum_problem(index: int) -> Problem:
    return ("sum", *unordered_pair(index + _FIRST_PAIR))


def _difference_problem(index: int) -> Problem:
    small, large = unordered_pair(index + _FIRST_PAIR)
    return ("difference", large, small)


def sum_of(a: int, b: int) -> Problem:
    """The problem that a statement of a + b gives away."""
    return ("sum", min(a, b), max(a, b))


def difference_of(a: int, b: int) -> Problem:
    """The problem that a statement of a - b gives away."""
    return ("difference", a, b)


def calculation(a: int, sign: str, b: int) -> Problem:
    """The problem that a statement of ``a sign b`` gives away."""
    return sum_of(a, b) if sign == "+" else difference_of(a, b)


def result_of(a: int, sign: str, b: int) -> int:
    """a + b or a - b."""
    return a + b if sign == "+" else a - b


def columns_of(a: int, sign: str, b: int, language: Language) -> str:
    """The working of a + b or a - b."""
    return add_in_columns(a, b, language) if sign == "+" else subtract_in_columns(a, b, language)


def _operands(problem: Problem, rng: Random) -> tuple[int, str, int]:
    kind, a, b = problem
    assert isinstance(a, int) and isinstance(b, int)
    if kind == "difference":
        return a, "-", b
    return (a, "+", b) if rng.random() < 0.5 else (b, "+", a)


def _dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    a, sign, b = _operands(problem, rng)
    questions = SUM_QUESTIONS if sign == "+" else _DIFFERENCE_QUESTIONS
    answer = str(result_of(a, sign, b))
    reply = with_working(language, columns_of(a, sign, b, language), answer)
    return exercise(rng.choice(questions[language]).format(a=a, b=b), reply, answer=answer)


def _text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    a, sign, b = _operands(problem, rng)
    statement = rng.choice(_STATEMENTS[sign, language])
    return statement.format(a=a, b=b, c=result_of(a, sign, b), working=columns_of(a, sign, b, language))


ADDITION = Skill(
    name="addition",
    title_zh="加法",
    title_en="addition",
    lesson_zh="加法从个位开始，逐位相加；一位满十，就向前一位进一。",
    lesson_en="To add, start with the ones and go left column by column; when a column reaches ten, carry one to the next.",
    num_problems=_NUM_PAIRS,
    guess_baseline=0.01,
    problem=_sum_problem,
    dialogue=_dialogue,
    text=_text,
)

SUBTRACTION = Skill(
    name="subtraction",
    title_zh="减法",
    title_en="subtraction",
    lesson_zh="减法从个位开始，逐位相减；不够减时向前一位借一，当作十。",
    lesson_en="To subtract, start with the ones; when a digit is too small, borrow one from the next column, which counts as ten.",
    num_problems=_NUM_PAIRS,
    guess_baseline=0.01,
    problem=_difference_problem,
    dialogue=_dialogue,
    text=_text,
    weight=1.4,
)
