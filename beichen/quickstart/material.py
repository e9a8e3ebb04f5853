"""What a run learns from and is examined on: the package's own corpus and dialogues, or the user's files.

Bundled material is written as jsonl into the run's folder, so that a reader sees exactly what was learnt, and the stages read it
like any user's file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.data.dialogue_files import read_dialogues
from beichen.data.files import expand_paths
from beichen.quickstart.corpus import HeldOutDialogue, generate_dialogues, generate_documents, held_out
from beichen.quickstart.plan import Plan
from beichen.text.messages import Message
from beichen.util.files import write_atomically
from beichen.util.progress import Reporter

CORPUS_BYTES_PER_MINUTE = 2_500_000  # a little more text than a 400 GFLOP/s machine reads in a minute of pretraining
DIALOGUES_PER_MINUTE = 14_000
SHOWN = 3  # questions of the user's own dialogues
QUESTIONS = ("你好，你是谁？", "What is 27 + 46?", "三十七加二十五等于多少？")


@dataclass(frozen=True, kw_only=True)
class Material:
    """Files for the two stages, the examination (bundled only), and a few questions whose answers are shown."""

    corpus: tuple[str, ...]
    dialogues: tuple[str, ...]
    examination: tuple[HeldOutDialogue, ...]
    questions: tuple[tuple[Message, ...], ...]
    bundled: bool


def bundled_material(folder: Path, plan: Plan, *, seed: int, reporter: Reporter) -> Material:
    """Generate as much as the plan can read, but for a file that stands there: it was written whole. Problems of the examination occur
    in neither file."""
    corpus, dialogues = folder / "corpus.jsonl", folder / "dialogues.jsonl"
    num_bytes = int(CORPUS_BYTES_PER_MINUTE * plan.pretraining_minutes) + 200_000
    number = int(DIALOGUES_PER_MINUTE * plan.fine_tuning_minutes) + 1000
    if not corpus.exists():
        with reporter.track("writing a corpus", total=num_bytes, unit="B") as task:
            documents = ({"text": text} for text in generate_documents(seed, num_bytes))
            write_atomically(corpus, b"".join(_lines(documents, task.advance)))
    if not dialogues.exists():
        with reporter.track("writing dialogues", total=number, unit="dialogues") as task:
            records = (
                {"messages": [{"role": message.role, "content": message.content} for message in dialogue.messages], "skill": skill}
                for skill, dialogue in generate_dialogues(seed, number)
            )
            write_atomically(dialogues, b"".join(_lines(records, lambda size: task.advance())))
    questions = tuple((Message(role="user", content=question),) for question in QUESTIONS)
    return Material(
        corpus=(str(corpus),), dialogues=(str(dialogues),), examination=tuple(held_out(seed)), questions=questions, bundled=True
    )


def _lines(records: Iterable[dict[str, Any]], wrote: Callable[[int], object]) -> Iterator[bytes]:
    for record in records:
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        wrote(len(line))
        yield line


def users_material(corpus: tuple[str, ...], dialogues: tuple[str, ...], reporter: Reporter) -> Material:
    """The user's files; the first questions of their dialogues are shown with the model's answers at the end.

    Every dialogue is read once here: one that cannot be used is said now, not after minutes of pretraining.
    """
    expand_paths(corpus)
    questions: list[tuple[Message, ...]] = []
    for dialogue in read_dialogues(dialogues, reporter=reporter) if dialogues else ():
        if len(questions) < SHOWN:
            until = next(place for place, message in enumerate(dialogue.messages) if message.role == "assistant")
            questions.append(tuple(dialogue.messages[:until]))
    return Material(corpus=corpus, dialogues=dialogues, examination=(), questions=tuple(questions), bundled=False)
