"""The whole main job in miniature: every stage runs, and what it leaves behind is what was promised."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import beichen
from beichen.errors import ConfigError, DataError, SettingsError, StorageError
from beichen.quickstart import material, run
from beichen.quickstart.corpus import held_out
from beichen.quickstart.report import Report
from beichen.quickstart.run import quickstart
from beichen.quickstart.settings import QuickstartSettings
from beichen.quickstart.skills.registry import SKILLS
from beichen.train.metrics import read_metrics
from beichen.train.run import train
from beichen.train.settings import BatchSettings, BudgetSettings, TrainRecipe
from beichen.util.files import FolderLock
from beichen.util.machine import measure_matmul_peak
from beichen.util.progress import SilentReporter, Task
from tests.train.small_runs import AtStep, write_corpus, write_dialogues

HERE: dict[str, Any] = {"device": "cpu", "threads": 1, "minutes": 0.5}
STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def in_miniature():
    """Steps instead of minutes, so that a busy machine learns as much as an idle one; small steps; two questions per skill."""

    def few_steps(recipe_of: Callable[..., TrainRecipe], *given: Any, **named: Any) -> TrainRecipe:
        recipe = recipe_of(*given, **named)
        assert recipe.budget.minutes is not None and recipe.budget.minutes > 0
        return replace(recipe, budget=BudgetSettings(steps=STEPS), batch=BatchSettings(rows_per_step=4, rows_per_micro_batch=4))

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pretraining_recipe", "fine_tuning_recipe"):
            patch.setattr(run, name, partial(few_steps, getattr(run, name)))
        patch.setattr(run, "measure_matmul_peak", partial(measure_matmul_peak, sizes=(256,)))
        patch.setattr(material, "held_out", partial(held_out, per_skill=2))
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory, in_miniature) -> Report:
    return quickstart(QuickstartSettings(out=str(tmp_path_factory.mktemp("job") / "run"), **HERE))


def test_every_stage_leaves_its_results(report):
    names = {path.name for path in report.folder.iterdir()}
    assert {"material", "pretraining", "fine-tuning", "llama", "config.json", "model.safetensors", "tokenizer.json", "report.json",
            "loss.png", "accuracy.png", "answers.jsonl"} <= names  # fmt: skip
    for stage in ("pretraining", "fine-tuning"):
        losses = [record["loss"] for record in read_metrics(report.folder / stage / "metrics.jsonl")]
        assert len(losses) == STEPS and losses[-1] < losses[0]
        assert (report.folder / stage / "settings.yaml").exists()
    stored = json.loads((report.folder / "report.json").read_text(encoding="utf-8"))
    assert stored["accuracy"]["counts"]["overall"]["total"] == 2 * len(SKILLS)
    assert stored["accuracy"]["skills"].keys() == {skill.name for skill in SKILLS}
    assert stored["seconds"] > stored["training_seconds"] > 0
    assert len((report.folder / "answers.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")) == 2 * len(SKILLS)


def test_the_folder_holds_the_model_that_was_fine_tuned(report):
    ours = beichen.load(report.folder, device="cpu", dtype="float32")
    tuned = beichen.load(report.folder / "fine-tuning", device="cpu", dtype="float32")
    assert ours.family == "telechat2" and ours.tokenizer.fingerprint == tuned.tokenizer.fingerprint
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours.decoder.parameters(), tuned.decoder.parameters(), strict=True))
    first = report.figures["samples"][0]
    dtype = report.figures["plan"]["dtype"]
    answer = beichen.load(report.folder, device="cpu", dtype=dtype).chat(first[:-1])
    assert answer.text == first[-1]["content"], "the samples are what chat says"


def test_stock_transformers_reads_the_llama_folder_and_gives_equal_logits(report):
    from transformers import AutoModelForCausalLM

    ours = beichen.load(report.folder, device="cpu", dtype="float32")
    theirs = AutoModelForCausalLM.from_pretrained(report.folder / "llama", dtype=torch.float32).eval()
    assert type(theirs).__name__ == "LlamaForCausalLM"
    ids = torch.tensor([ours.tokenizer.encode("三加五等于几？ 12 + 30 = 42, the cat sat on the mat.")])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_what_was_learnt_stands_in_the_folder(report):
    settings = yaml.safe_load((report.folder / "pretraining" / "settings.yaml").read_text(encoding="utf-8"))
    assert settings["data"]["files"] == [str(report.folder / "material" / "corpus.jsonl")]
    assert settings["dtype"] == report.figures["plan"]["dtype"] and settings["seed"] == 0


def test_a_folder_that_holds_a_run_is_refused_with_the_way_on(report):
    before = {path: path.stat().st_mtime_ns for path in report.folder.rglob("*")}
    with pytest.raises(StorageError, match="holds a run") as fault:
        quickstart(QuickstartSettings(out=str(report.folder), **HERE))
    assert f"beichen chat {report.folder}" in str(fault.value) and "model.start_from" in str(fault.value)
    assert {path: path.stat().st_mtime_ns for path in report.folder.rglob("*") if path.name != report.folder.name} == before


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match="or other files") as fault:
        quickstart(QuickstartSettings(out=str(tmp_path), **HERE))
    assert fault.value.remedy == "name a new folder"


def test_own_text_alone_ends_after_pretraining(tmp_path, monkeypatch):
    """Without --out the runs are numbered; accuracy is null, nothing is fine-tuned, and text can be continued."""
    monkeypatch.chdir(tmp_path)
    corpus = write_corpus(tmp_path / "corpus.jsonl", documents=600)
    folders = []
    for _ in range(2):
        report = quickstart(QuickstartSettings(corpus=(str(corpus),), **HERE))
        folders.append(report.folder)
        assert report.figures["accuracy"] is None and report.figures["bits_per_byte"] > 0
        assert not (report.folder / "fine-tuning").exists() and not report.figures["samples"]
    assert folders == [Path("runs/quickstart-001"), Path("runs/quickstart-002")]
    assert beichen.load(folders[1], device="cpu", dtype="float32").generate("the cat", max_new_tokens=3).ids


def test_own_dialogues_are_what_it_learns_to_say(tmp_path):
    corpus, dialogues = write_corpus(tmp_path / "corpus.jsonl", documents=600), write_dialogues(tmp_path / "dialogues.jsonl")
    settings = QuickstartSettings(out=str(tmp_path / "run"), corpus=(str(corpus),), dialogues=(str(dialogues),), **HERE)
    report = quickstart(settings)
    assert report.figures["accuracy"] is None and [stage["finished"] for stage in report.figures["stages"]] == [True, True]
    assert len(report.figures["samples"]) == 3 and not (report.folder / "material").exists()
    losses = [record["loss"] for record in read_metrics(report.folder / "fine-tuning" / "metrics.jsonl")]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("family", ["lama", "llama"])
def test_a_family_that_cannot_be_trained_so_is_said_before_anything_is_made(tmp_path, family):
    with pytest.raises(ConfigError, match=f"'{family}'.*"):
        quickstart(QuickstartSettings(out=str(tmp_path / "run"), family=family, experts=4, **HERE))
    assert not (tmp_path / "run").exists()


def test_a_bad_dialogue_is_said_before_anything_is_made(tmp_path):
    corpus, dialogues = write_corpus(tmp_path / "corpus.jsonl"), write_dialogues(tmp_path / "dialogues.jsonl")
    with dialogues.open("a") as file:
        file.write('{"messages": []}\n')
    with pytest.raises(DataError, match=r"dialogues\.jsonl:61: "):
        quickstart(QuickstartSettings(out=str(tmp_path / "run"), corpus=(str(corpus),), dialogues=(str(dialogues),), **HERE))
    assert not (tmp_path / "run").exists()


def test_a_fault_before_the_first_step_leaves_the_folder_free(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", documents=600)
    good = corpus.read_bytes()
    settings = QuickstartSettings(out=str(tmp_path / "run"), corpus=(str(corpus),), **HERE)
    corpus.write_bytes(good + b'{"text": "\xff"}\n')
    with pytest.raises(DataError, match=r"corpus\.jsonl:601: invalid UTF-8"):
        quickstart(settings)
    assert not (tmp_path / "run").exists()
    corpus.write_bytes(good)
    assert quickstart(settings).figures["stages"][0]["finished"]


class StopsIn(SilentReporter):
    """Ctrl-C in the middle of one part of the work, known by its label; the lines that were said."""

    def __init__(self, label: str = "") -> None:
        self.label, self.moves = label, 0
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> Iterator[Task]:
        with super().track(label, total=total, unit=unit, begun=begun) as task:
            yield self if label == self.label else task

    def set(self, done: float, **figures: float | str) -> None:
        self.advance()

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        self.moves += 1
        if self.moves == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_stopped_in_every_stage_it_ends_as_if_it_had_not_been(report, tmp_path, monkeypatch):
    """Law: what is done is kept and not done again, and the model is that of a run that nobody stopped."""
    monkeypatch.chdir(tmp_path)
    folder, settings = Path("runs/mine"), QuickstartSettings(out="runs/mine", dtype=report.figures["plan"]["dtype"], **HERE)
    early = StopsIn("writing dialogues")
    with pytest.raises(KeyboardInterrupt):
        quickstart(settings, early)
    assert not folder.exists(), "nothing was learnt yet"
    assert early.lines[-1] == "stopped before the first step of training: nothing is kept, the same command begins anew"
    kept: dict[Path, int] = {}
    for label, then in (("pretraining", 2), ("fine-tuning", 4), ("answering", 6)):
        reporter = StopsIn(label)
        with pytest.raises(KeyboardInterrupt):
            quickstart(settings, reporter)
        assert reporter.lines[-1] == "stopped; `beichen quickstart --out runs/mine` goes on from there"
        assert not any("beichen train" in line for line in reporter.lines)
        assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
        monkeypatch.setattr(run, "_plan", lambda *given: pytest.fail("the plan is kept"))
        stored = [*folder.glob("material/*"), *folder.glob("*/model.safetensors"), *folder.glob("*/result.json")]
        kept = {path: path.stat().st_mtime_ns for path in stored if path.parent.name != "llama"}
        assert len(kept) == then
    reporter = StopsIn()
    ended = quickstart(replace(settings, out=str(tmp_path / "runs/mine")), reporter)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert sum(", done before: 12 steps" in line for line in reporter.lines) == 2
    for stage in ("pretraining", "fine-tuning"):
        assert [record["step"] for record in read_metrics(folder / stage / "metrics.jsonl")] == list(range(1, STEPS + 1))
    mine, whole = (beichen.load(path, device="cpu", dtype="float32") for path in (folder, report.folder))
    assert all(torch.equal(one, other) for one, other in zip(mine.decoder.parameters(), whole.decoder.parameters(), strict=True))
    assert ended.figures["accuracy"] == report.figures["accuracy"] and (folder / "llama" / "config.json").exists()
    assert ended.figures["seconds"] > ended.figures["training_seconds"], "the calls that were stopped count"
    with pytest.raises(StorageError, match="holds a run"):
        quickstart(settings)


def test_a_stage_that_beichen_train_has_finished_is_done(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", documents=600)
    settings = QuickstartSettings(out=str(tmp_path / "run"), corpus=(str(corpus),), **HERE)
    with pytest.raises(KeyboardInterrupt):
        quickstart(settings, AtStep(3, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert [state.name for state in (tmp_path / "run/pretraining/state").iterdir()] == ["step-000003"]
    with pytest.raises(SettingsError, match=r"minutes was 0\.5 and is 1\.0"):
        quickstart(replace(settings, minutes=1.0))
    result = train(tmp_path / "run/pretraining/settings.yaml")
    assert result.finished
    report = quickstart(settings)
    assert report.figures["stages"] == [result.as_dict()]


def test_a_run_that_another_process_works_in_is_left_alone(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", documents=600)
    settings = QuickstartSettings(out=str(tmp_path / "run"), corpus=(str(corpus),), **HERE)
    (tmp_path / "run").mkdir()
    with FolderLock(tmp_path / "run"), pytest.raises(StorageError, match="is in use by"):
        quickstart(settings)
    assert (tmp_path / "run").exists()


def test_a_file_that_is_missing_leaves_no_half_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        quickstart(QuickstartSettings(corpus=("nowhere.jsonl",), **HERE))
    assert not list(tmp_path.glob("runs/*"))
