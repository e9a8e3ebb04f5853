"""The report: the figures that the main job promises, each equal to what it is defined as, in a file, two pictures and a table."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from beichen.data.split import is_held_out
from beichen.evaluation.exact_match import Accuracy, Answered, Question
from beichen.nn import kernels
from beichen.quickstart import report as report_module
from beichen.quickstart.material import Material
from beichen.quickstart.plan import make_plan
from beichen.quickstart.report import Report, as_text, write_report, xz_bits_per_byte
from beichen.quickstart.skills.registry import SKILLS
from beichen.text.messages import Message
from beichen.train.flops import flops_per_token
from beichen.train.result import TrainResult
from beichen.train.run import train
from beichen.util.progress import SILENT
from tests.train.small_runs import tiny_recipe, write_corpus

PLAN = make_plan(float32_peak=200.0, bfloat16_peak=400.0, minutes=1.0, bundled=True, with_dialogues=True)
SAMPLE = (Message(role="user", content="你好 [b]"), Message(role="assistant", content="Hello\n"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl")


@pytest.fixture(scope="module")
def stages(tmp_path_factory, corpus) -> tuple[TrainResult, TrainResult]:
    runs = tmp_path_factory.mktemp("runs")
    return train(tiny_recipe(runs / "pretraining", corpus, steps=3)), train(tiny_recipe(runs / "fine-tuning", corpus, steps=5))


def marks(right: int = 3, each: int = 4) -> Accuracy:
    """The first skill has all right, the others ``right`` of ``each``."""
    answers = []
    for skill in SKILLS:
        question = Question(messages=(), check=bool, group=skill.name)
        number = each if skill is SKILLS[0] else right
        answers += [Answered(question=question, answer="", finish_reason="stop", right=place < number) for place in range(each)]
    return Accuracy(answers=answers)


def report_of(folder: Path, corpus: Path, stages: tuple[TrainResult, TrainResult | None], accuracy: Accuracy | None) -> Report:
    material = Material(corpus=(str(corpus),), dialogues=(), examination=(), questions=(), bundled=accuracy is not None)
    return write_report(
        folder, plan=PLAN, material=material, pretrained=stages[0], tuned=stages[1], marks=accuracy, samples=(SAMPLE,), seconds=90.0,
        reporter=SILENT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory, corpus, stages) -> Report:
    return report_of(tmp_path_factory.mktemp("report"), corpus, stages, marks())


def test_the_file_has_the_promised_keys(report):
    stored = json.loads((report.folder / "report.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(report.figures))
    numbers = ("bits_per_byte", "xz_bits_per_byte", "tokens_per_second", "matmul_share", "matmul_peak_gflops", "seconds")
    assert all(isinstance(stored[key], float) and stored[key] > 0 for key in numbers)
    assert stored["accuracy"]["skills"] == {skill.name: 1.0 if skill is SKILLS[0] else 0.75 for skill in SKILLS}
    assert stored["accuracy"]["overall"] == pytest.approx((4 + 3 * (len(SKILLS) - 1)) / (4 * len(SKILLS)))
    assert stored["accuracy"]["guess_baselines"] == {skill.name: skill.guess_baseline for skill in SKILLS}
    assert stored["kernels"] == kernels.status().reason and stored["hardware"]["cores"] >= 1
    assert stored["samples"] == [[{"role": "user", "content": "你好 [b]"}, {"role": "assistant", "content": "Hello\n"}]]


def test_speed_and_its_share_of_the_peak_count_both_stages(report, stages):
    figures = report.figures
    tokens, seconds = sum(stage.tokens for stage in stages), sum(stage.seconds for stage in stages)
    assert figures["tokens_per_second"] == pytest.approx(tokens / seconds)
    assert figures["matmul_share"] == pytest.approx(tokens / seconds * flops_per_token(stages[0].folder) / 400e9)
    assert figures["matmul_peak_gflops"] == 400.0 and figures["seconds"] == 90.0
    assert figures["training_seconds"] == pytest.approx(seconds)
    assert figures["bits_per_byte"] == stages[0].bits_per_byte
    assert [stage["steps"] for stage in figures["stages"]] == [3, 5]


def test_the_same_by_xz_is_what_xz_needs_for_the_held_out_text(report, corpus):
    texts = [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()]
    known = b"".join(text.encode() + b"\n" for text in texts if not is_held_out(text, 0.05))
    held_out = b"".join(text.encode() + b"\n" for text in texts if is_held_out(text, 0.05))
    more = len(lzma.compress(known + held_out, preset=9)) - len(lzma.compress(known, preset=9))
    assert report.figures["xz_bits_per_byte"] == pytest.approx(8 * more / len(held_out))


def test_xz_is_left_out_where_nothing_is_held_out_or_all_too_much(tmp_path, corpus, monkeypatch):
    known = next(text for number in range(99) if not is_held_out(text := f"text {number}", 0.05))
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": known}) + "\n")
    assert xz_bits_per_byte([str(tmp_path / "one.jsonl")], SILENT) is None
    monkeypatch.setattr(report_module, "MOST_BYTES_FOR_XZ", 1000)
    assert xz_bits_per_byte([str(corpus)], SILENT) is None


def test_pictures_are_pictures(report):
    for name in ("loss.png", "accuracy.png"):
        content = (report.folder / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000


def test_the_table_names_every_skill_and_ends_with_the_path(report):
    lines = report.text.split("\n")
    assert lines[-1] == str(report.folder / "report.json") and Path(lines[-1]).is_file()
    for skill in SKILLS:
        (row,) = [line for line in lines if line.startswith(f"{skill.title_en} ") and skill.title_zh in line]
        assert ("100.0%" if skill is SKILLS[0] else "75.0%") in row and f"{skill.guess_baseline:.1%}" in row
    assert f"{report.figures['accuracy']['overall']:.1%}" in next(line for line in lines if line.startswith("overall"))
    assert any(line.endswith("你好 [b]") for line in lines) and any(line.endswith("assistant: Hello") for line in lines)
    assert f"  beichen chat {report.folder}" in lines


def test_own_text_alone_has_no_accuracy_and_one_stage(tmp_path, corpus, stages):
    report = report_of(tmp_path, corpus, (stages[0], None), None)
    assert report.figures["accuracy"] is None and len(report.figures["stages"]) == 1
    assert not (tmp_path / "accuracy.png").exists() and "accuracy" not in report.text


def test_a_figure_that_was_not_measured_is_said_to_be_so(report):
    figures: dict[str, Any] = {**report.figures, "bits_per_byte": None, "xz_bits_per_byte": None}
    assert as_text(report.folder, figures).count("not measured") == 2
