"""Answers of many questions on disk: each exactly once, whatever happens on the way."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beichen.errors import SettingsError, StorageError
from beichen.inference.answers_file import AnswersFile, journal_of

SETTINGS = {"temperature": 0.5, "stop": ["。"]}
QUESTIONS = [{"prompt": f"问题 {number}", "id": number} for number in range(200)]
WORKER = """
import random, sys, time
from pathlib import Path
from beichen.inference.answers_file import AnswersFile
output, log, settings, count = Path(sys.argv[1]), Path(sys.argv[2]), {"temperature": 0.5, "stop": ["。"]}, 200
questions = [{"prompt": f"问题 {number}", "id": number} for number in range(count)]
with AnswersFile(output, settings) as answers, log.open("a") as computed:
    todo = [place for place in range(count) if not answers.holds(place, questions[place])]
    random.shuffle(todo)
    for place in todo:
        computed.write(f"{place}\\n")
        computed.flush()
        time.sleep(0.005)
        answers.add(place, questions[place], answer={**questions[place], "answer": "答" * (place % 50) + "\\u2028"})
    answers.finish()
"""


def write_some(output: Path, places: list[int]) -> None:
    with AnswersFile(output, SETTINGS) as answers:
        for place in places:
            if not answers.holds(place, QUESTIONS[place]):
                answers.add(place, QUESTIONS[place], answer={**QUESTIONS[place], "answer": str(place)})


def test_answers_come_in_the_order_of_the_questions(tmp_path):
    output = tmp_path / "new" / "out.jsonl"
    write_some(output, [3, 0, 2])
    assert not output.exists()
    with AnswersFile(output, SETTINGS) as answers:
        assert len(answers) == 3 and answers.holds(0, QUESTIONS[0]) and not answers.holds(1, QUESTIONS[1])
        answers.add(4, QUESTIONS[4], fault={"fault": "in.jsonl:8: too long", "line": 8})
        answers.add(1, QUESTIONS[1], fault={"fault": "in.jsonl:3: too long", "line": 3})
        unread = [{"fault": "not JSON", "line": line} for line in (2, 7, 9)]
        assert answers.finish(list(zip((1, 4, 5), unread, strict=True))) == 5
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == [0, 2, 3]
    faults = [json.loads(line) for line in (output.parent / "out.faults.jsonl").read_text().splitlines()]
    assert [fault["line"] for fault in faults] == [2, 3, 7, 8, 9] and [faults[place] for place in (0, 2, 4)] == unread
    assert faults[1] == {"fault": "in.jsonl:3: too long", "line": 3, "question": QUESTIONS[1]}
    assert not journal_of(output).exists()


def test_faults_of_an_earlier_run_do_not_stay_beside_answers_without_any(tmp_path):
    output = tmp_path / "out.jsonl"
    for fault in ({"fault": "too long"}, None):
        with AnswersFile(output, SETTINGS) as answers:
            answers.add(0, QUESTIONS[0], answer=QUESTIONS[0], fault=fault)
            assert answers.finish() == answers.faults.exists() == (fault is not None)


def test_whoever_goes_on_is_told_why_questions_have_no_answer(tmp_path):
    with AnswersFile(tmp_path / "out.jsonl", SETTINGS) as answers:
        answers.add(0, QUESTIONS[0], answer=QUESTIONS[0])
        answers.add(1, QUESTIONS[1], fault={"fault": "too long", "line": 2})
        assert [answers.fault_of(place) for place in range(3)] == [None, "too long", None]
    with AnswersFile(tmp_path / "out.jsonl", SETTINGS) as answers:
        assert [answers.fault_of(place) for place in range(3)] == [None, "too long", None]


@pytest.mark.parametrize("seed", range(5))
def test_a_journal_cut_anywhere_goes_on(tmp_path, seed):
    """Law: after a cut at any byte, the whole lines before it are kept, and what follows is as if nothing had happened."""
    output = tmp_path / "out.jsonl"
    write_some(output, list(range(40)))
    content = journal_of(output).read_bytes()
    cut = random.Random(seed).randrange(len(content))
    journal_of(output).write_bytes(content[:cut])
    with AnswersFile(output, SETTINGS) as answers:
        assert len(answers) == max(0, content[:cut].count(b"\n") - 1)
    write_some(output, random.Random(seed).sample(range(200), 200))
    with AnswersFile(output, SETTINGS) as answers:
        assert answers.finish() == 0
    assert [json.loads(line)["answer"] for line in output.read_text().splitlines()] == [str(number) for number in range(200)]


def test_killed_at_any_moment_every_question_is_answered_once(tmp_path):
    output, log = tmp_path / "out.jsonl", tmp_path / "computed"
    draw, kills = random.Random(7), 0
    while not output.exists() or journal_of(output).exists():
        process = subprocess.Popen([sys.executable, "-c", WORKER, str(output), str(log)], cwd=Path(__file__).parents[2])
        lines = log.read_text().count("\n") if log.exists() else 0
        wanted = lines + draw.randrange(1, 40)
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < wanted):
            time.sleep(0.0005)
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 2
    answers = [json.loads(line) for line in output.read_text().split("\n")[:-1]]
    assert [answer["id"] for answer in answers] == list(range(200))
    assert all(answer["answer"] == "答" * (answer["id"] % 50) + "\u2028" for answer in answers)
    assert len(log.read_text().split()) <= 200 + kills  # at most what was being computed is computed again


def test_what_does_not_belong_together_is_named(tmp_path):
    output = tmp_path / "out.jsonl"
    write_some(output, [0])
    with (
        pytest.raises(SettingsError, match=r"temperature was 0.5 and is 0.7, seed was not given and is 1"),
        AnswersFile(output, SETTINGS | {"temperature": 0.7, "seed": 1}),
    ):
        pass
    with AnswersFile(output, SETTINGS) as answers:
        with pytest.raises(SettingsError, match="question 1 has changed"):
            answers.holds(0, QUESTIONS[1])
        with pytest.raises(StorageError, match="another process"), AnswersFile(output, SETTINGS):
            pass
    journal_of(output).write_text("a poem\n")
    with pytest.raises(StorageError, match="no journal"), AnswersFile(output, SETTINGS):
        pass


def test_a_damaged_line_is_asked_again(tmp_path):
    output = tmp_path / "out.jsonl"
    write_some(output, [0, 1, 2])
    lines = journal_of(output).read_bytes().splitlines(keepends=True)
    lines[2] = b"\0" * (len(lines[2]) - 1) + b"\n"
    journal_of(output).write_bytes(b"".join(lines))
    with AnswersFile(output, SETTINGS) as answers:
        assert len(answers) == 2 and not answers.holds(1, QUESTIONS[1])
