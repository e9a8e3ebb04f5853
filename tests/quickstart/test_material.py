"""What a run reads: files that follow from the seed, hold no problem of the examination, and open like any user's files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from beichen.data.dialogue_files import read_dialogues
from beichen.data.sources import read_documents
from beichen.errors import DataError
from beichen.quickstart import corpus
from beichen.quickstart.corpus import SMALL_TALK, generate_dialogues
from beichen.quickstart.material import CORPUS_BYTES_PER_MINUTE, DIALOGUES_PER_MINUTE, Material, bundled_material, users_material
from beichen.quickstart.plan import Plan, make_plan
from beichen.quickstart.skills.registry import SKILLS
from beichen.quickstart.skills.skill import Problem, Skill
from beichen.quickstart.skills.split import is_held_out
from beichen.text.messages import Message
from beichen.util.progress import SILENT
from tests.train.small_runs import write_corpus, write_dialogues

PLAN = make_plan(float32_peak=400.0, bfloat16_peak=400.0, minutes=0.1, bundled=True, with_dialogues=True)


def made_in(folder: Path, *, plan: Plan = PLAN, seed: int = 0) -> Material:
    return bundled_material(folder, plan, seed=seed, reporter=SILENT)


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Material:
    return made_in(tmp_path_factory.mktemp("material"))


def content(material: Material) -> list[bytes]:
    return [Path(name).read_bytes() for name in (*material.corpus, *material.dialogues)]


def test_files_and_examination_follow_from_the_seed(material, tmp_path):
    again, other = made_in(tmp_path / "again"), made_in(tmp_path / "other", seed=1)
    assert content(again) == content(material) and again.examination == material.examination
    assert all(mine != theirs for mine, theirs in zip(content(other), content(material), strict=True))
    assert other.examination != material.examination


def test_no_problem_of_the_examination_is_in_the_files(material):
    """Words against words: no question of the examination was asked in a dialogue, whatever was said before it, or stands on a page."""
    asked = set()
    for dialogue in read_dialogues(material.dialogues):
        questions = tuple(message.content for message in dialogue.messages if message.role == "user")
        asked |= {questions[start:stop] for start in range(len(questions)) for stop in range(start + 1, len(questions) + 1)}
    pages = [document.text for document in read_documents(material.corpus)]
    lines = {re.sub("^(问：|答：|Q: |A: )", "", line) for page in pages for line in page.split("\n")}
    assert len(asked) > 2000 and len(lines) > 5000
    assert len({questions[0] for questions in asked} & lines) > 10, "dialogues and pages ask in the same words"
    for item in material.examination:
        questions = tuple(message.content for message in item.dialogue.messages if message.role == "user")
        assert questions not in asked
        assert len(questions) > 1 or questions[0] not in lines


def test_the_files_are_made_of_problems_that_reveal_none_that_is_held_out(tmp_path, monkeypatch):
    used: list[tuple[Skill, Problem]] = []
    original = corpus.training_problem

    def recorded(skill: Skill, rng: Random) -> Problem:
        used.append((skill, original(skill, rng)))
        return used[-1][1]

    monkeypatch.setattr(corpus, "training_problem", recorded)
    examination = made_in(tmp_path).examination
    assert all(is_held_out(item.problem) for item in examination)
    assert len(used) > 5000 and not any(is_held_out(revealed) for skill, problem in used for revealed in skill.reveals(problem))


def test_a_record_is_the_dialogue_that_was_generated(material):
    dialogues = list(read_dialogues(material.dialogues))
    for (_, generated), read in zip(generate_dialogues(0, 50), dialogues, strict=False):
        assert read.messages == list(generated.messages)


def test_the_examination_is_large_and_asks_every_skill(material):
    assert len(material.examination) >= 2000
    assert {item.skill.name for item in material.examination} == {skill.name for skill in SKILLS}
    assert all(item.skill.check(item.dialogue.messages[-1].content, _Answer(item.answer)) for item in material.examination)


class _Answer:
    def __init__(self, answer: str) -> None:
        self.answer = answer


def test_there_is_as_much_as_the_plan_can_read(tmp_path):
    longer = replace(PLAN, pretraining_minutes=0.2, fine_tuning_minutes=0.2)
    files = made_in(tmp_path, plan=longer)
    size = sum(document.num_bytes for document in read_documents(files.corpus))
    assert size >= CORPUS_BYTES_PER_MINUTE * 0.2
    assert sum(1 for _ in read_dialogues(files.dialogues)) >= DIALOGUES_PER_MINUTE * 0.2


def test_every_dialogue_says_its_skill(material):
    lines = Path(material.dialogues[0]).read_text(encoding="utf-8").split("\n")[:-1]
    assert {json.loads(line)["skill"] for line in lines} == {skill.name for skill in SKILLS} | {SMALL_TALK}


def test_a_users_files_are_taken_as_they_are(tmp_path):
    corpus, dialogues = write_corpus(tmp_path / "corpus.jsonl"), write_dialogues(tmp_path / "dialogues.jsonl")
    material = users_material((str(corpus),), (str(dialogues),), SILENT)
    assert (material.corpus, material.dialogues, material.bundled) == ((str(corpus),), (str(dialogues),), False)
    assert material.examination == ()
    first = [json.loads(line)["messages"][0] for line in dialogues.read_text().splitlines()[:3]]
    assert material.questions == tuple((Message(role="user", content=turn["content"]),) for turn in first)


def test_without_dialogues_there_is_nothing_to_ask(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    assert users_material((str(corpus),), (), SILENT).questions == ()


def test_dialogues_that_are_none_are_said_before_anything_is_trained(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    with pytest.raises(DataError, match=r"corpus\.jsonl:1: plain text for pretraining"):
        users_material((str(corpus),), (str(corpus),), SILENT)
