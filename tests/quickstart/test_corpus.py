"""Laws of the generated corpus: the same seed gives the same bytes, and nothing held out is ever shown in training."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from beichen.quickstart import corpus
from beichen.quickstart.corpus import SMALL_TALK, generate_dialogues, generate_documents, held_out
from beichen.quickstart.skills.registry import SKILLS
from beichen.quickstart.skills.skill import Problem, Skill
from beichen.quickstart.skills.split import HELD_OUT_SHARE, held_out_problems, is_held_out, may_train


def test_documents_follow_from_the_seed() -> None:
    once, again = (list(generate_documents(3, 60_000)) for _ in range(2))
    assert once == again
    assert sum(len(text.encode()) for text in once[:-1]) < 60_000 <= sum(len(text.encode()) for text in once)
    assert once != list(generate_documents(4, 60_000))
    assert not set(once) & set(generate_documents(3, 60_000, purpose="other"))


def test_dialogues_follow_from_the_seed_and_their_index() -> None:
    whole = list(generate_dialogues(5, 300))
    assert whole[100:] == list(generate_dialogues(5, 200, first=100))
    assert whole != list(generate_dialogues(6, 300))


def test_held_out_items_are_many_distinct_and_held_out() -> None:
    items = held_out(0)
    assert len(items) >= 2000
    assert set(Counter(item.skill.name for item in items).values()) == {corpus.HELD_OUT_PER_SKILL}
    assert corpus.HELD_OUT_PER_SKILL >= 100
    assert len({(item.skill.name, item.problem) for item in items}) == len(items)
    for item in items:
        assert is_held_out(item.problem) and not may_train(item.skill, item.problem)
    assert items == held_out(0)


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_the_share_held_out_is_as_stated(skill: Skill) -> None:
    rng = Random(0)
    share = sum(is_held_out(skill.problem(rng.randrange(skill.num_problems))) for _ in range(4000)) / 4000
    assert abs(share - HELD_OUT_SHARE) < 0.02
    assert skill.problem(0) in skill.reveals(skill.problem(0))


def test_training_reveals_no_held_out_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem that documents and dialogues are made from is recorded, with all that it reveals."""
    used: list[tuple[Skill, Problem]] = []
    original = corpus.training_problem

    def recorded(skill: Skill, rng: Random) -> Problem:
        problem = original(skill, rng)
        used.append((skill, problem))
        return problem

    monkeypatch.setattr(corpus, "training_problem", recorded)
    assert list(generate_documents(0, 200_000))
    assert list(generate_dialogues(0, 3000))
    assert len(used) > 3000
    assert not any(is_held_out(revealed) for skill, problem in used for revealed in skill.reveals(problem))


def test_no_held_out_question_or_statement_stands_in_the_text() -> None:
    """Words against words: each phrasing of held-out problems, searched in what training sees."""
    lines = {re.sub("^(问：|答：|Q: |A: )", "", line) for text in generate_documents(0, 300_000) for line in text.split("\n")}
    asked = set()
    for _, dialogue in generate_dialogues(0, 5000):
        questions = tuple(message.content for message in dialogue.messages if message.role == "user")
        asked |= {questions[start:stop] for start in range(len(questions)) for stop in range(start + 1, len(questions) + 1)}
    for skill in SKILLS:
        rng = Random(1)
        for problem in held_out_problems(skill, rng, 30):
            for _ in range(12):
                exercise = skill.dialogue(problem, rng)
                assert tuple(m.content for m in exercise.messages if m.role == "user") not in asked
                assert skill.text(problem, rng) not in lines
                if len(exercise.messages) == 2:
                    assert exercise.messages[0].content not in lines


def test_every_skill_and_small_talk_occur() -> None:
    shares = Counter(name for name, _ in generate_dialogues(0, 4000))
    assert set(shares) == {skill.name for skill in SKILLS} | {SMALL_TALK}
    assert min(shares.values()) >= 50
