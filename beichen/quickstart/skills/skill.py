"""What a skill is: numbered problems, dialogues and plain text about them, and when a reply counts as correct.

A ``Problem`` is its content alone (a tuple that starts with what kind of fact it is); wording, order of presentation and
language are drawn when a dialogue is made. A reply is correct when its *final answer* equals the expected one exactly:
the last line of the reply, without the label ``答案：`` or ``Answer:`` and without spaces around it. A reply that shows no
working has one line, so there the whole reply must match. The answer has to come in the language of the question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from beichen.text.messages import Message, Role

Language = Literal["zh", "en"]
Problem = tuple[str | int, ...]

LABELS = {"zh": "答案：", "en": "Answer: "}


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One problem in words: messages that end with the reference reply, and the final answer alone."""

    messages: tuple[Message, ...]
    answer: str


def alone(problem: Problem) -> tuple[Problem, ...]:
    """The statements of most skills give away nothing but the problem itself."""
    return (problem,)


@dataclass(frozen=True, kw_only=True)
class Skill:
    """One thing to learn that a program can check.

    ``problem`` maps ``range(num_problems)`` one-to-one to problems. ``reveals`` lists every problem (of this skill or
    another) whose answer a dialogue or text about this one gives away, itself included: training must hold none that is held out.
    ``guess_baseline`` bounds what the best constant answer, or a uniform choice among the values in the question, can reach.
    """

    name: str
    title_zh: str
    title_en: str
    num_problems: int
    guess_baseline: float
    problem: Callable[[int], Problem]
    dialogue: Callable[[Problem, Random], Exercise]
    text: Callable[[Problem, Random], str]
    reveals: Callable[[Problem], tuple[Problem, ...]] = alone
    lesson_zh: str  # how it is done, in a sentence or two: opens some pages of the corpus
    lesson_en: str
    weight: float = 1.0  # share of the training dialogues, relative to the other skills

    def check(self, reply: str, exercise: Exercise) -> bool:
        """Whether ``reply`` answers the last question of ``exercise`` exactly."""
        return is_correct(reply, exercise.answer)


def final_answer(reply: str) -> str:
    """The last line of a reply without its label."""
    line = reply.strip().rpartition("\n")[2].strip()
    for label in LABELS.values():
        line = line.removeprefix(label.strip()).strip()
    return line


def is_correct(reply: str, answer: str) -> bool:
    """Exact match of the final answer."""
    return final_answer(reply) == answer


def pick_language(rng: Random) -> Language:
    """Chinese and English in equal parts."""
    return "zh" if rng.random() < 0.5 else "en"


def with_working(language: Language, working: str, answer: str) -> str:
    """A reply of two lines: how one gets there, then the labelled answer."""
    return f"{working}\n{LABELS[language]}{answer}"


_ROLES: tuple[Role, Role] = ("user", "assistant")


def exercise(*turns: str, answer: str) -> Exercise:
    """Turns of user and assistant alternately; the last is the reference reply."""
    return Exercise(messages=tuple(Message(role=_ROLES[place % 2], content=turn) for place, turn in enumerate(turns)), answer=answer)
