"""The corpus and the dialogues that the main job generates: everything follows from a seed and an index.

Goes out: documents for pretraining (lessons, pages of statements, exercises with answers, lists to recall, tables, stories), dialogues for
fine-tuning (every skill by its weight, and some small talk), and the held-out dialogues. The rule it keeps: no document and
no training dialogue reveals a held-out problem, in any phrasing (``skills/split.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count
from random import Random

from beichen.quickstart.recall import recall_page
from beichen.quickstart.skills.registry import SKILLS
from beichen.quickstart.skills.skill import Exercise, Problem, Skill
from beichen.quickstart.skills.split import held_out_problems, training_problem
from beichen.quickstart.small_talk import small_talk
from beichen.quickstart.stories import story
from beichen.quickstart.tables import table_page
from beichen.text.messages import Dialogue
from beichen.util.random import keyed_seed

SMALL_TALK = "small_talk"
_SMALL_TALK_SHARE = 0.03
HELD_OUT_PER_SKILL = 128

_SKILL_WEIGHTS = list(accumulate(skill.weight for skill in SKILLS))
_ITEMS = 7  # statements or exercises on a page
_QUESTION_AND_ANSWER = (("问：", "答："), ("Q: ", "A: "))


@dataclass(frozen=True, kw_only=True)
class HeldOutDialogue:
    """One evaluation item: ask the user's turns one after another; the last reply's final answer must be ``answer``."""

    skill: Skill
    problem: Problem
    dialogue: Dialogue
    answer: str


def _random(seed: int, purpose: str, index: int) -> Random:
    return Random(keyed_seed(seed, purpose, index))


def _pick_skill(rng: Random) -> Skill:
    return rng.choices(SKILLS, cum_weights=_SKILL_WEIGHTS)[0]


def _lesson(rng: Random) -> str:
    """How a skill works, and examples."""
    skill = _pick_skill(rng)
    opening = f"{skill.title_zh}。{skill.lesson_zh}" if rng.random() < 0.5 else f"{skill.title_en.capitalize()}. {skill.lesson_en}"
    return "\n".join((opening, *(skill.text(training_problem(skill, rng), rng) for _ in range(_ITEMS))))


def _exercises(rng: Random) -> str:
    """Questions with worked answers, of one skill or mixed."""
    mixed = rng.random() < 0.5
    skill = _pick_skill(rng)
    lines = []
    labels = rng.choice(_QUESTION_AND_ANSWER)
    for _ in range(_ITEMS):
        exercise = skill.dialogue(training_problem(skill, rng), rng)
        lines += [f"{labels[place % 2]}{message.content}" for place, message in enumerate(exercise.messages)]
        if mixed:
            skill = _pick_skill(rng)
    return "\n".join(lines)


def _stories(rng: Random) -> str:
    return "\n".join(story(rng) for _ in range(3))


_PAGES = (_exercises, _lesson, recall_page, table_page, _stories)
_PAGE_WEIGHTS = list(accumulate((0.5, 0.22, 0.14, 0.07, 0.07)))


def generate_documents(seed: int, num_bytes: int, *, purpose: str = "document") -> Iterator[str]:
    """Documents until their UTF-8 text reaches ``num_bytes``; another ``purpose`` gives other documents of the same kind."""
    written = 0
    for index in count():
        if written >= num_bytes:
            return
        rng = _random(seed, purpose, index)
        document = rng.choices(_PAGES, cum_weights=_PAGE_WEIGHTS)[0](rng)
        written += len(document.encode())
        yield document


def _dialogue(exercise: Exercise, origin: str) -> Dialogue:
    return Dialogue(messages=exercise.messages, origin=origin)


def generate_dialogues(seed: int, number: int, *, first: int = 0) -> Iterator[tuple[str, Dialogue]]:
    """Training dialogues ``first`` to ``first + number - 1``, each with the name of its skill (or ``small_talk``)."""
    for index in range(first, first + number):
        rng = _random(seed, "dialogue", index)
        if rng.random() < _SMALL_TALK_SHARE:
            yield SMALL_TALK, Dialogue(messages=small_talk(rng), origin=f"{SMALL_TALK}:{index}")
            continue
        skill = _pick_skill(rng)
        yield skill.name, _dialogue(skill.dialogue(training_problem(skill, rng), rng), f"{skill.name}:{index}")


def held_out(seed: int, per_skill: int = HELD_OUT_PER_SKILL) -> list[HeldOutDialogue]:
    """``per_skill`` held-out problems of every skill, each in one phrasing."""
    items = []
    for number, skill in enumerate(SKILLS):
        rng = _random(seed, "held out", number)
        for place, problem in enumerate(held_out_problems(skill, rng, per_skill)):
            exercise = skill.dialogue(problem, rng)
            dialogue = _dialogue(exercise, f"held-out {skill.name}:{place}")
            items.append(HeldOutDialogue(skill=skill, problem=problem, dialogue=dialogue, answer=exercise.answer))
    return items
