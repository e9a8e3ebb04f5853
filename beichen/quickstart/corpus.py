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
from beichen.quickstart.skills.skill import Problem, Skill
from beichen.quickstart.skills.split import held_out_problems, training_problem
from beichen.quickstart.small_talk import small_talk
from beichen.quickstart.stories import story
from beichen.quickstart.tables import table_page
from beichen.text.messages import Dialogue, Message
from beichen.util.random import keyed_seed

SMALL_TALK = "small_talk"
_SMALL_TALK_SHARE = 0.03
_TOPIC_COUNT_WEIGHTS = (0.65, 0.2, 0.15)  # of dialogues with one, two, three topics
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


def _topic(rng: Random) -> tuple[str, tuple[Message, ...]]:
    """One exercise, or a greeting: its name and messages."""
    if rng.random() < _SMALL_TALK_SHARE:
        return SMALL_TALK, small_talk(rng)
    skill = _pick_skill(rng)
    return skill.name, skill.dialogue(training_problem(skill, rng), rng).messages


def generate_dialogues(seed: int, number: int, *, first: int = 0) -> Iterator[tuple[str, Dialogue]]:
    """Training dialogues ``first`` to ``first + number - 1``, each with the name of its last topic (a skill or ``small_talk``).

    Some go on from one topic to another, as people do in one conversation.
    """
    for index in range(first, first + number):
        rng = _random(seed, "dialogue", index)
        messages: tuple[Message, ...] = ()
        for _ in range(rng.choices((1, 2, 3), _TOPIC_COUNT_WEIGHTS)[0]):
            name, topic = _topic(rng)
            messages += topic
        yield name, Dialogue(messages=messages, origin=f"{name}:{index}")


def held_out(seed: int, per_skill: int = HELD_OUT_PER_SKILL) -> list[HeldOutDialogue]:
    """``per_skill`` held-out problems of every skill, each in one phrasing."""
    items = []
    for number, skill in enumerate(SKILLS):
        rng = _random(seed, "held out", number)
        for place, problem in enumerate(held_out_problems(skill, rng, per_skill)):
            exercise = skill.dialogue(problem, rng)
            dialogue = Dialogue(messages=exercise.messages, origin=f"held-out {skill.name}:{place}")
            items.append(HeldOutDialogue(skill=skill, problem=problem, dialogue=dialogue, answer=exercise.answer))
    return items
