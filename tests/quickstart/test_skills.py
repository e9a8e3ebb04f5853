"""Laws that every skill keeps: many distinct problems, replies that pass their own check, answers that cannot be guessed."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from random import Random

import pytest

from beichen.quickstart.skills.calendar import MONTHS, WEEKDAYS
from beichen.quickstart.skills.chinese_numbers import to_chinese
from beichen.quickstart.skills.registry import SKILLS
from beichen.quickstart.skills.skill import Exercise, Skill, final_answer, is_correct

every_skill = pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)


def exercises(skill: Skill, count: int, seed: int = 0) -> list[Exercise]:
    rng = Random(seed)
    return [skill.dialogue(skill.problem(rng.randrange(skill.num_problems)), rng) for _ in range(count)]


def by_name(name: str) -> Skill:
    return next(skill for skill in SKILLS if skill.name == name)


def test_there_are_enough_skills_and_names_are_unique() -> None:
    assert len(SKILLS) >= 10
    assert len({skill.name for skill in SKILLS}) == len(SKILLS)


@every_skill
def test_problems_are_distinct_by_content(skill: Skill) -> None:
    """All of them where they are few; else the ends of the range and as many drawn at random."""
    assert skill.num_problems >= 10_000
    some = 3000
    if skill.num_problems <= 40_000:
        indices = set(range(skill.num_problems))
    else:
        indices = {*range(some), *range(skill.num_problems - some, skill.num_problems)}
        indices |= set(Random(1).sample(range(skill.num_problems), some))
    assert len({skill.problem(index) for index in indices}) == len(indices)


@every_skill
def test_reference_replies_pass_and_spoilt_ones_fail(skill: Skill) -> None:
    for exercise in exercises(skill, 300):
        reply = exercise.messages[-1].content
        assert exercise.messages[-1].role == "assistant"
        assert skill.check(reply, exercise)
        assert skill.check(f" {reply}\n", exercise)
        assert not skill.check(reply + "1", exercise)
        assert not skill.check(reply[:-1], exercise)
        assert not skill.check("", exercise)


@every_skill
def test_turns_alternate_and_are_clean_text(skill: Skill) -> None:
    for exercise in exercises(skill, 300, seed=1):
        roles = [message.role for message in exercise.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        for message in exercise.messages:
            assert message.content == message.content.strip() != ""
            assert "{" not in message.content and "\ufffd" not in message.content


@every_skill
def test_phrasings_vary_in_both_languages(skill: Skill) -> None:
    """One problem is asked in at least six ways, in Chinese and in English."""
    rng = Random(2)
    for _ in range(5):
        problem = skill.problem(rng.randrange(skill.num_problems))
        asked = {tuple(m.content for m in skill.dialogue(problem, rng).messages if m.role == "user") for _ in range(400)}
        assert len(asked) >= 6
        questions = [turns[0] for turns in asked]
        assert any(re.search(r"[A-Za-z]{3}", question) for question in questions)
        assert any(re.search(r"[\u4e00-\u9fff]", question) for question in questions)


@every_skill
def test_guessing_stays_below_the_stated_baseline(skill: Skill) -> None:
    """The most frequent answer stays below it, and no baseline is above one half."""
    assert skill.guess_baseline <= 0.5
    sample = exercises(skill, 3000, seed=3)
    assert Counter(exercise.answer for exercise in sample).most_common(1)[0][1] / len(sample) <= skill.guess_baseline


@pytest.mark.parametrize("name", ["comparison", "facts", "follow_up_list"])
def test_choosing_among_the_values_shown_stays_below_the_baseline(name: str) -> None:
    """The first, the last and a random one of the numbers or facts that the user can see."""
    skill, rng = by_name(name), Random(3)
    hits = dict.fromkeys(("first", "last", "random"), 0)
    sample = exercises(skill, 3000, seed=3)
    for exercise in sample:
        shown = exercise.messages[-3 if name == "follow_up_list" else 0].content
        if name == "facts":
            values = [part.strip() + exercise.answer[-1] for part in re.split(r"[，。？]|, |[.?]", shown) if part.strip()]
            values = [value for value in values if re.search(r"\d|在|喜欢|at the|likes", value) and not re.search(r"什么|哪", value)]
        else:
            values = re.findall(r"\d+", shown)
        for way, guess in {"first": values[0], "last": values[-1], "random": rng.choice(values)}.items():
            hits[way] += guess == exercise.answer
    assert min(hits.values()) > 0
    assert max(hits.values()) / len(sample) <= skill.guess_baseline


@every_skill
def test_text_is_one_paragraph(skill: Skill) -> None:
    rng = Random(4)
    for _ in range(200):
        text = skill.text(skill.problem(rng.randrange(skill.num_problems)), rng)
        assert text == text.strip() != "" and "\n" not in text and "{" not in text


def test_final_answer_is_the_last_line_without_its_label() -> None:
    assert final_answer("个位7+5=12，十位4+8+1=13。\n答案：132") == "132"
    assert final_answer("ones 7+5=12.\nAnswer: 132 \n") == "132"
    assert final_answer("红、黄") == "红、黄"
    assert not is_correct("答案：132\n不对", "132")
    assert not is_correct("132 or 133", "132")


# The answers against another way of finding them.


@pytest.mark.parametrize("name", ["addition", "subtraction", "follow_up_sum", "chinese_arithmetic"])
def test_every_step_of_a_working_is_true(name: str) -> None:
    for exercise in exercises(by_name(name), 500, seed=5):
        for message in exercise.messages[1::2]:
            steps = re.findall(r"([\d+-]+)=(\d+)", message.content)
            assert steps
            for left, right in steps:
                numbers = [int(number) for number in re.findall(r"[+-]?\d+", left)]
                assert sum(numbers) == int(right)


def test_sums_and_differences() -> None:
    for name, combine in (("addition", lambda a, b: a + b), ("subtraction", lambda a, b: abs(a - b))):
        for exercise in exercises(by_name(name), 500, seed=6):
            a, b = map(int, re.findall(r"\d+", exercise.messages[0].content))
            assert int(exercise.answer) == combine(a, b)


def test_numerals_follow_their_grammar_back() -> None:
    """Reading a numeral by its units gives the number again, and zero stands once between gaps, never at the end."""
    digits, units = "零一二三四五六七八九", {"十": 10, "百": 100, "千": 1000}
    for number in range(10_000):
        text = to_chinese(number)
        total, digit = 0, 1 if text.startswith("十") else 0
        for character in text:
            if character in units:
                total, digit = total + digit * units[character], 0
            else:
                digit = digits.index(character)
        assert total + digit == number
        assert "零零" not in text and (number == 0 or not text.endswith("零"))
    assert [to_chinese(n) for n in (10, 15, 110, 205, 1005, 1050)] == ["十", "十五", "一百一十", "二百零五", "一千零五", "一千零五十"]


def test_weekdays_and_dates_agree_with_the_calendar() -> None:
    monday = datetime.date(2025, 1, 6)
    skill, rng = by_name("weekday"), Random(7)
    for _ in range(500):
        problem = skill.problem(rng.randrange(skill.num_problems))
        _, direction, day, days = (part if isinstance(part, int) else 0 for part in problem)
        then = monday + datetime.timedelta(days=day + direction * days)
        answer = skill.dialogue(problem, rng).answer
        assert answer in (WEEKDAYS["zh"][then.weekday()], WEEKDAYS["en"][then.weekday()])
    skill = by_name("date")
    for index in rng.sample(range(skill.num_problems), 500):
        problem = skill.problem(index)
        _, month, day, days = (part if isinstance(part, int) else 0 for part in problem)
        then = datetime.date(2025, month, day) + datetime.timedelta(days=days)
        answer = skill.dialogue(problem, rng).answer
        assert answer in (f"{then.month}月{then.day}日", f"{MONTHS[then.month - 1]} {then.day}")


def test_rows_are_copied_reversed_and_sorted() -> None:
    for exercise in exercises(by_name("reversing"), 300, seed=8):
        items = re.findall(r"[a-z]+|\d|[\u4e00-\u9fff]", exercise.answer)
        asked = re.findall(r"[a-z]+|\d|[\u4e00-\u9fff]", exercise.messages[0].content)
        assert any(asked[start : start + len(items)] == items[::-1] for start in range(len(asked)))
    for exercise in exercises(by_name("copying"), 300, seed=9):
        assert exercise.messages[0].content.endswith(exercise.answer)
    for exercise in exercises(by_name("sorting"), 300, seed=10):
        given = [int(number) for number in re.findall(r"\d+", exercise.messages[0].content)]
        answer = [int(number) for number in re.findall(r"\d+", exercise.answer)]
        assert answer in (sorted(given), sorted(given, reverse=True))


def test_a_fact_is_answered_by_what_was_said() -> None:
    for exercise in exercises(by_name("facts"), 300, seed=11):
        assert exercise.answer.rstrip("。.") in exercise.messages[0].content
