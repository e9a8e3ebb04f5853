"""Chinese numerals: reading and writing numbers up to 9,999, and sums and differences of numbers up to 199 written in them."""

from __future__ import annotations

from random import Random

from beichen.quickstart.skills.arithmetic import calculation, columns_of, result_of
from beichen.quickstart.skills.domains import mixed_radix, unordered_pair
from beichen.quickstart.skills.skill import Exercise, Problem, Skill, exercise, pick_language, with_working

_DIGITS = "零一二三四五六七八九"
_UNITS = ("", "十", "百", "千")


def to_chinese(number: int) -> str:
    """0 to 9,999 as spoken: 10 is 十, 110 is 一百一十, 1005 is 一千零五."""
    if number == 0:
        return _DIGITS[0]
    digits = str(number)
    spoken, zero = "", False
    for place, digit in enumerate(digits):
        if digit == "0":
            zero = True
            continue
        spoken += ("零" if zero else "") + _DIGITS[int(digit)] + _UNITS[len(digits) - 1 - place]
        zero = False
    return spoken.removeprefix("一") if 10 <= number < 20 else spoken


_NUMERAL_SIZES = (2, 10_000)
_TO_CHINESE = {
    "zh": ("{n}用汉字怎么写？", "把{n}写成中文数字。", "{n}怎么读？", "{n}的中文数字是什么？"),
    "en": ("Write {n} in Chinese numerals.", "How is {n} written in Chinese?", "What is {n} in Chinese numerals?"),
}
_FROM_CHINESE = {
    "zh": ("{n}用数字怎么写？", "把{n}写成阿拉伯数字。", "{n}是多少？", "{n}的阿拉伯数字是什么？"),
    "en": ("Write {n} in digits.", "Which number is {n}?", "What is {n} in digits?"),
}
_NUMERAL_TEXTS = ("{digits}写作{chinese}。", "{chinese}就是{digits}。", "{digits} is {chinese} in Chinese.", "{chinese} means {digits}.")


def _numeral_problem(index: int) -> Problem:
    direction, number = mixed_radix(index, _NUMERAL_SIZES)
    return ("numeral", ("to Chinese", "to digits")[direction], number)


def _numeral_dialogue(problem: Problem, rng: Random) -> Exercise:
    _, direction, number = problem
    digits, chinese = str(number), to_chinese(int(number))
    language = pick_language(rng)
    if direction == "to Chinese":
        return exercise(rng.choice(_TO_CHINESE[language]).format(n=digits), chinese, answer=chinese)
    return exercise(rng.choice(_FROM_CHINESE[language]).format(n=chinese), digits, answer=digits)


def _numeral_text(problem: Problem, rng: Random) -> str:
    number = int(problem[2])
    return rng.choice(_NUMERAL_TEXTS).format(digits=number, chinese=to_chinese(number))


def _numeral_reveals(problem: Problem) -> tuple[Problem, ...]:
    return ("numeral", "to Chinese", problem[2]), ("numeral", "to digits", problem[2])


NUMERALS = Skill(
    name="numerals",
    title_zh="中文数字读写",
    title_en="Chinese numerals",
    lesson_zh="中文数字按千、百、十、个读出来，中间空位读作零，末尾的零不读。",
    lesson_en="A Chinese numeral names thousands 千, hundreds 百, tens 十 and ones; an empty place in the middle is read 零.",
    num_problems=_NUMERAL_SIZES[0] * _NUMERAL_SIZES[1],
    guess_baseline=0.01,
    problem=_numeral_problem,
    dialogue=_numeral_dialogue,
    text=_numeral_text,
    reveals=_numeral_reveals,
    weight=0.7,
)

# Pairs of numbers from 1 to 199 whose larger one is 20 or more, as in ``arithmetic``.
_FIRST_PAIR = 19 * 20 // 2
_PAIRS = 199 * 200 // 2 - _FIRST_PAIR
_ARITHMETIC_SIZES = (2, _PAIRS)
_QUESTIONS = {
    ("+", "zh"): ("{a}加{b}等于多少？", "{a}加上{b}是多少？", "{a}与{b}的和是多少？", "{a}加{b}得几？"),
    ("+", "en"): ("What is {a} plus {b} in Chinese numerals?", "Add {a} and {b}."),
    ("-", "zh"): ("{a}减{b}等于多少？", "{a}减去{b}是多少？", "{a}与{b}的差是多少？", "{a}减{b}得几？"),
    ("-", "en"): ("What is {a} minus {b} in Chinese numerals?", "Subtract {b} from {a}."),
}
_WORDS = {"+": "加", "-": "减"}


def _arithmetic_problem(index: int) -> Problem:
    sign, pair = mixed_radix(index, _ARITHMETIC_SIZES)
    low, high = unordered_pair(pair + _FIRST_PAIR)
    return ("Chinese sum", low + 1, high + 1) if sign == 0 else ("Chinese difference", high + 1, low + 1)


def _operation(problem: Problem) -> tuple[int, str, int]:
    kind, a, b = problem
    return int(a), "+" if kind == "Chinese sum" else "-", int(b)


def _arithmetic_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = "zh" if rng.random() < 0.8 else "en"
    a, sign, b = _operation(problem)
    if sign == "+" and rng.random() < 0.5:
        a, b = b, a
    answer = to_chinese(result_of(a, sign, b))
    working = f"{a}{sign}{b}：{columns_of(a, sign, b, 'zh')}"
    question = rng.choice(_QUESTIONS[sign, language]).format(a=to_chinese(a), b=to_chinese(b))
    return exercise(question, with_working("zh", working, answer), answer=answer)


def _arithmetic_text(problem: Problem, rng: Random) -> str:
    a, sign, b = _operation(problem)
    if sign == "+" and rng.random() < 0.5:
        a, b = b, a
    c = result_of(a, sign, b)
    return f"{to_chinese(a)}{_WORDS[sign]}{to_chinese(b)}，即{a}{sign}{b}：{columns_of(a, sign, b, 'zh')}得{c}，{to_chinese(c)}。"


def _arithmetic_reveals(problem: Problem) -> tuple[Problem, ...]:
    return problem, calculation(*_operation(problem))


CHINESE_ARITHMETIC = Skill(
    name="chinese_arithmetic",
    title_zh="中文数字加减",
    title_en="arithmetic in Chinese numerals",
    lesson_zh="用中文数字做加减，先把它们写成阿拉伯数字，逐位计算，再把结果写回中文数字。",
    lesson_en="To calculate with Chinese numerals, write them in digits, work column by column, and write the result in Chinese again.",
    num_problems=_ARITHMETIC_SIZES[0] * _ARITHMETIC_SIZES[1],
    guess_baseline=0.02,
    problem=_arithmetic_problem,
    dialogue=_arithmetic_dialogue,
    text=_arithmetic_text,
    reveals=_arithmetic_reveals,
    weight=1.3,
)
