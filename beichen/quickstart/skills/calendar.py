"""Weekdays some days away, and dates some days later in a year of 365 days, with the division or the end of month as working."""

from __future__ import annotations

from random import Random

from beichen.quickstart.skills.arithmetic import difference_of, sum_of
from beichen.quickstart.skills.domains import mixed_radix
from beichen.quickstart.skills.skill import Exercise, Language, Problem, Skill, exercise, pick_language, with_working

WEEKDAYS = {
    "zh": ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
_WEEKDAY_SIZES = (2, 7, 999)
_WEEKDAY_QUESTIONS = {
    (1, "zh"): ("今天{day}，{n}天后是星期几？", "今天是{day}，再过{n}天是星期几？", "{day}之后{n}天是星期几？"),
    (1, "en"): ("Today is {day}. Which weekday is it in {n} days?", "Which day is {n} days after {day}?", "{day} plus {n} days?"),
    (-1, "zh"): ("今天{day}，{n}天前是星期几？", "今天是{day}，{n}天以前是星期几？", "{day}之前{n}天是星期几？"),
    (-1, "en"): ("Today is {day}. Which weekday was it {n} days ago?", "Which day is {n} days before {day}?", "{day} minus {n} days?"),
}
_STEPS = {
    (1, "zh"): "{division}，往后数：{counted}。",
    (1, "en"): "{division}, forward: {counted}.",
    (-1, "zh"): "{division}，往前数：{counted}。",
    (-1, "en"): "{division}, back: {counted}.",
}
_WEEKDAY_TEXTS = {
    (1, "zh"): "{day}之后{n}天：{working}就是{answer}。",
    (1, "en"): "{n} days after {day}: {working} That is {answer}.",
    (-1, "zh"): "{day}之前{n}天：{working}就是{answer}。",
    (-1, "en"): "{n} days before {day}: {working} That is {answer}.",
}


def _weekday_problem(index: int) -> Problem:
    direction, day, days = mixed_radix(index, _WEEKDAY_SIZES)
    return ("weekday", 1 - 2 * direction, day, days + 1)


def remainder_steps(number: int, language: Language) -> str:
    """Division by seven from the front, two digits at a time: 365 is ``36÷7余1，15÷7余1``."""
    left, steps = int(str(number)[:2]), []
    word, comma = ("余", "，") if language == "zh" else (" leaves ", ", ")
    for digit in (*str(number)[2:], None):
        steps.append(f"{left}÷7{word}{left % 7}")
        if digit is not None:
            left = left % 7 * 10 + int(digit)
    return comma.join(steps)


def _weekday_words(problem: Problem, language: Language) -> dict[str, object]:
    _, direction, day, days = (part for part in problem)
    assert isinstance(direction, int) and isinstance(day, int) and isinstance(days, int)
    names = WEEKDAYS[language]
    division = remainder_steps(days, language)
    comma = "，" if language == "zh" else ", "
    counted = comma.join(f"{step} {names[(day + direction * step) % 7]}" for step in range(days % 7 + 1))
    working = _STEPS[direction, language].format(division=division, counted=counted)
    return {"day": names[day], "n": days, "working": working, "answer": names[(day + direction * days) % 7]}


def _weekday_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    words = _weekday_words(problem, language)
    question = rng.choice(_WEEKDAY_QUESTIONS[int(problem[1]), language]).format(**words)
    answer = str(words["answer"])
    return exercise(question, with_working(language, str(words["working"]), answer), answer=answer)


def _weekday_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    return _WEEKDAY_TEXTS[int(problem[1]), language].format(**_weekday_words(problem, language))


WEEKDAY = Skill(
    name="weekday",
    title_zh="星期推算",
    title_en="weekdays",
    lesson_zh="一个星期有七天，七天以后又是同一天。所以只要看天数除以七的余数，再往后或往前数。",
    lesson_en="A week has seven days, so only the remainder after division by seven matters; then count forward or back.",
    num_problems=_WEEKDAY_SIZES[0] * _WEEKDAY_SIZES[1] * _WEEKDAY_SIZES[2],
    guess_baseline=0.2,
    problem=_weekday_problem,
    dialogue=_weekday_dialogue,
    text=_weekday_text,
    weight=1.3,
)

MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
_DATE_SIZES = (365, 28)
_DATE_QUESTIONS = {
    "zh": ("{date}之后{n}天是几月几日？", "{date}再过{n}天是几月几日？", "平年里，{date}的{n}天后是哪一天？"),
    "en": (
        "Which date is {n} days after {date}?",
        "What is the date {n} days after {date}?",
        "It is {date}. Which date comes in {n} days?",
    ),
}
_INSIDE = {"zh": "{day}+{n}={total}，{month}有{length}天。", "en": "{day}+{n}={total}, {month} has {length} days."}
_BEYOND = {
    "zh": "{day}+{n}={total}，{month}有{length}天，{total}-{length}={rest}。",
    "en": "{day}+{n}={total}, {month} has {length} days, {total}-{length}={rest}.",
}
_DATE_TEXTS = {"zh": "{date}之后{n}天：{working}就是{answer}。", "en": "{n} days after {date}: {working} That is {answer}."}


def month_name(month: int, language: Language) -> str:
    """Month 0 is January."""
    return f"{month + 1}月" if language == "zh" else MONTHS[month]


def _date(month: int, day: int, language: Language) -> str:
    return f"{month + 1}月{day}日" if language == "zh" else f"{MONTHS[month]} {day}"


def _date_problem(index: int) -> Problem:
    day, days = mixed_radix(index, _DATE_SIZES)
    month = 0
    while day >= MONTH_LENGTHS[month]:
        day -= MONTH_LENGTHS[month]
        month += 1
    return ("date", month + 1, day + 1, days + 1)


def _date_words(problem: Problem, language: Language) -> dict[str, object]:
    _, number, day, days = problem
    assert isinstance(number, int) and isinstance(day, int) and isinstance(days, int)
    month = number - 1
    length, total = MONTH_LENGTHS[month], day + days
    words = {"day": day, "n": days, "total": total, "month": month_name(month, language), "length": length, "rest": total - length}
    if total > length:
        working, answer = _BEYOND[language], _date((month + 1) % 12, total - length, language)
    else:
        working, answer = _INSIDE[language], _date(month, total, language)
    return {"date": _date(month, day, language), "n": days, "working": working.format(**words), "answer": answer}


def _date_dialogue(problem: Problem, rng: Random) -> Exercise:
    language = pick_language(rng)
    words = _date_words(problem, language)
    answer = str(words["answer"])
    reply = with_working(language, str(words["working"]), answer)
    return exercise(rng.choice(_DATE_QUESTIONS[language]).format(**words), reply, answer=answer)


def _date_text(problem: Problem, rng: Random) -> str:
    language = pick_language(rng)
    return _DATE_TEXTS[language].format(**_date_words(problem, language))


def _date_reveals(problem: Problem) -> tuple[Problem, ...]:
    _, month, day, days = problem
    assert isinstance(month, int) and isinstance(day, int) and isinstance(days, int)
    length = MONTH_LENGTHS[month - 1]
    sums = (problem, sum_of(day, days))
    return (*sums, difference_of(day + days, length)) if day + days > length else sums


DATE = Skill(
    name="date",
    title_zh="日期推算",
    title_en="dates",
    lesson_zh="日期往后推，先把天数加到日上；超过这个月的天数，就减去这个月的天数，进入下个月。",
    lesson_en="To find a later date, add the days; if the sum goes beyond the end of the month, take off the length of that month.",
    num_problems=_DATE_SIZES[0] * _DATE_SIZES[1],
    guess_baseline=0.02,
    problem=_date_problem,
    dialogue=_date_dialogue,
    text=_date_text,
    reveals=_date_reveals,
    weight=1.1,
)
