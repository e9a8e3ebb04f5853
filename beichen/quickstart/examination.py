"""Held-out accuracy per skill: every question asked through the chat path of the saved folder, every reply decoded freely.

In a dialogue of several turns the model hears its own earlier replies, as with a user; the last reply is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beichen.evaluation.exact_match import Accuracy, Answered, Question, measure_accuracy
from beichen.inference.language_model import LanguageModel
from beichen.quickstart.corpus import HeldOutDialogue
from beichen.quickstart.skills.skill import is_correct
from beichen.text.messages import Message
from beichen.util.progress import Reporter

MAX_NEW_TOKENS = 128


def examine(model: LanguageModel, items: Sequence[HeldOutDialogue], record: Path, reporter: Reporter) -> Accuracy:
    """Ask everything; questions, replies and verdicts are written to ``record`` as JSON lines."""
    heard: list[tuple[Message, ...]] = [() for _ in items]
    answers: list[Answered | None] = [None] * len(items)
    depth = 0
    while waiting := [number for number, item in enumerate(items) if depth < len(_questions(item))]:
        asked = []
        for number in waiting:
            heard[number] = (*heard[number], _questions(items[number])[depth])
            asked.append(_question(items[number], heard[number]))
        given = measure_accuracy(model.generator, model.tokenizer, asked, max_new_tokens=MAX_NEW_TOKENS, reporter=reporter)
        for number, answered in zip(waiting, given.answers, strict=True):
            heard[number] = (*heard[number], Message(role="assistant", content=answered.answer))
            answers[number] = answered  # the last turn's verdict stays
        depth += 1
    accuracy = Accuracy(answers=[answered for answered in answers if answered is not None])
    accuracy.write(record)
    return accuracy


def sample_dialogues(model: LanguageModel, questions: Sequence[Sequence[Message]]) -> tuple[tuple[Message, ...], ...]:
    """The model's reply to each opening, greedily decoded."""
    return tuple((*opening, Message(role="assistant", content=model.chat(list(opening)).text)) for opening in questions)


def _questions(item: HeldOutDialogue) -> list[Message]:
    return [message for message in item.dialogue.messages if message.role == "user"]


def _question(item: HeldOutDialogue, messages: tuple[Message, ...]) -> Question:
    return Question(
        messages=messages, check=lambda reply: is_correct(reply, item.answer), group=item.skill.name, expected=item.answer
    )  # fmt: skip
