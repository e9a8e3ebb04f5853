"""``train``: from files to a checkpoint; whatever stops it, the same command ends with the same weights."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import beichen
from beichen.data.split import is_held_out
from beichen.errors import BeichenError, DataError, SettingsError, StorageError
from beichen.train.metrics import CLOCK, read_metrics
from beichen.train.result import TrainResult
from beichen.train.run import plan, train
from beichen.train.run_folder import FREE_TO_CHANGE
from beichen.train.settings import TrainRecipe
from beichen.util.files import FolderLock
from beichen.util.patient_file import PatientFile
from tests.full_disk import full_disk, limit_file_size
from tests.train.small_runs import AtStep, tiny_recipe, write_corpus, write_dialogues

STEPS = 150


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus) -> TrainResult:
    """A run that nothing stopped."""
    return train(tiny_recipe(tmp_path_factory.mktemp("runs") / "whole", corpus, steps=STEPS))


def assert_same_training(folder: Path, other: Path) -> None:
    """Every bit of the weights, every record but the clock."""
    ours, theirs = (load_file(place / "model.safetensors") for place in (folder, other))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    left, right = (
        [{key: value for key, value in record.items() if key not in CLOCK} for record in read_metrics(place / "metrics.jsonl")]
        for place in (folder, other)
    )
    assert left == right and [record["step"] for record in left] == list(range(1, STEPS + 1))


def test_it_learns_and_says_what_it_reached(whole):
    losses = [record["loss"] for record in read_metrics(whole.folder / "metrics.jsonl")]
    assert whole.finished and whole.steps == STEPS and len(losses) == STEPS
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    assert whole.held_out_loss is not None and whole.bits_per_byte is not None
    assert whole.held_out_loss < losses[0] and 0 < whole.bits_per_byte < 8
    assert 0.98 * STEPS * 4 * 32 < whole.tokens <= STEPS * 4 * 32, "an epoch's last row may be padded"
    assert whole.tokens_per_second == pytest.approx(whole.tokens / whole.seconds)
    assert json.loads((whole.folder / "result.json").read_text()) == whole.as_dict()


def test_its_folder_is_a_model(whole):
    """The published layout, opened by the front door; what only the run needed is gone or beside it."""
    model = beichen.load(whole.folder, device="cpu", dtype="float32")
    assert sum(parameter.numel() for parameter in model.decoder.parameters()) == whole.parameters
    assert model(model.tokenizer.encode("the cat sat on")).isfinite().all()
    assert model.generate("the cat", max_new_tokens=3).text
    published = json.loads((whole.folder / "config.json").read_text())
    assert published["architectures"] == ["TeleChat2ForCausalLM"] and published["eos_token_id"] == model.tokenizer.end_id
    generation = json.loads((whole.folder / "generation_config.json").read_text())
    assert generation["do_sample"] is False and generation["eos_token_id"] == model.tokenizer.end_id
    assert not (whole.folder / "state").exists(), "a finished run needs no state"


def test_its_settings_make_the_same_model(whole, tmp_path):
    """settings.yaml beside the result is the run."""
    table = yaml.safe_load((whole.folder / "settings.yaml").read_text())
    (tmp_path / "again.yaml").write_text(yaml.safe_dump({**table, "out": str(tmp_path / "again")}, allow_unicode=True))
    again = train(tmp_path / "again.yaml")
    assert (again.loss, again.bits_per_byte) == (whole.loss, whole.bits_per_byte)
    assert_same_training(again.folder, whole.folder)


def test_a_finished_run_is_refused_with_the_way_on(whole, corpus):
    with pytest.raises(SettingsError, match="holds a finished run") as fault:
        train(tiny_recipe(whole.folder, corpus, steps=STEPS))
    assert "model.start_from" in str(fault.value)


def start(recipe: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """``beichen train`` in a process of its own."""
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "beichen", "train", "--config", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def wait_for_steps(process: subprocess.Popen[bytes], folder: Path, steps: int, *, saved: bool = False) -> None:
    """Until so many steps are on record (and, if asked, a state is on disk)."""
    until = time.monotonic() + 200
    metrics = folder / "metrics.jsonl"
    while time.monotonic() < until:
        done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        if done >= steps and (not saved or any(folder.glob("state/step-*"))):
            return
        assert process.poll() is None, f"ended with {process.returncode} after {done} steps"
        time.sleep(0.005)
    raise TimeoutError(f"not {steps} steps within 200 s")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_the_same_command_ends_with_the_same_weights(tmp_path, corpus, whole, number):
    recipe = tiny_recipe(tmp_path / "run", corpus, steps=STEPS)
    process = start(recipe, tmp_path / "run")
    wait_for_steps(process, tmp_path / "run", 3)
    process.send_signal(number)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130 and b"Traceback" not in err
    assert f"`beichen train --config {tmp_path / 'run' / 'settings.yaml'}` goes on from there".encode() in err
    (state,) = (tmp_path / "run" / "state").iterdir()
    stopped = int(state.name.removeprefix("step-"))
    assert 3 <= stopped < STEPS and not (tmp_path / "run" / "config.json").exists()
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == stopped
    result = train(recipe)
    assert result.finished and result.steps == STEPS and result.loss == whole.loss
    assert_same_training(result.folder, whole.folder)


def test_a_kill_loses_no_more_than_what_was_not_saved(tmp_path, corpus, whole):
    """kill -9 twice, at whatever instant, then the end."""
    recipe = tiny_recipe(tmp_path / "run", corpus, steps=STEPS, checkpoint={"every_minutes": 1e-4, "keep": 1})
    reached = 0
    for _ in range(2):
        process = start(recipe, tmp_path / "run")
        wait_for_steps(process, tmp_path / "run", reached + 3, saved=True)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=200)
        assert process.returncode == -signal.SIGKILL
        reached = max(int(path.name.removeprefix("step-")) for path in (tmp_path / "run" / "state").glob("step-*"))
        assert 0 < reached < STEPS
    result = train(recipe)
    assert result.finished and result.loss == whole.loss
    assert_same_training(result.folder, whole.folder)
    assert not list((tmp_path / "run").glob(".*.partial"))


def test_other_settings_are_refused_by_key(tmp_path, corpus):
    """What may change between two parts of a run is the budget, and where and how often it saves; never what is learnt."""
    recipe = tiny_recipe(tmp_path / "run", corpus, steps=10_000)
    process = start(recipe, tmp_path / "run")
    wait_for_steps(process, tmp_path / "run", 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=200)
    for changes, keys in (
        ({"seed": 5}, "seed"),
        ({"batch": {"rows_per_step": 8, "rows_per_micro_batch": 2}}, "batch"),
        ({"seed": 5, "optimizer": {"name": "adamw"}}, "optimizer, seed"),
    ):
        with pytest.raises(SettingsError, match=rf"holds a run with other settings \({keys}\)"):
            train({**recipe, **changes})
    result = train({**recipe, "budget": {"epochs": 1.0}, "checkpoint": {"keep": 1}})
    assert result.finished and result.steps > 2


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path, corpus, whole, monkeypatch):
    monkeypatch.setattr("beichen.train.state_keeping.RETRY_SECONDS", 0.001)
    recipe = tiny_recipe(tmp_path / "run", corpus, steps=STEPS, checkpoint={"every_steps": 10})

    def fill() -> None:
        limit_file_size(2000)
        reporter.then(60, lambda: limit_file_size(None))

    reporter = AtStep(29, fill)
    try:
        result = train(recipe, reporter)
    finally:
        limit_file_size(None)
    assert any("step 30 could not be saved, training goes on" in line for line in reporter.warnings)
    assert result.finished and result.loss == whole.loss
    assert_same_training(result.folder, whole.folder)


def test_a_disk_that_fills_up_leaves_the_last_good_state_and_room_ends_with_the_same_weights(tmp_path, corpus, whole):
    recipe = tiny_recipe(tmp_path / "run", corpus, steps=STEPS, checkpoint={"every_steps": 1, "keep": 1})
    try:
        with pytest.raises(StorageError, match=f"cannot write {tmp_path}") as fault:
            train(recipe, AtStep(20, lambda: limit_file_size(2000)))
    finally:
        limit_file_size(None)
    assert fault.value.remedy
    (state,) = (tmp_path / "run" / "state").iterdir()
    assert state.name == "step-000019" and not list((tmp_path / "run").rglob("*.partial"))
    assert not (tmp_path / "run" / "config.json").exists()
    result = train(recipe)
    assert result.finished and result.loss == whole.loss
    assert_same_training(result.folder, whole.folder)


def test_records_that_find_no_room_are_lost_alone(tmp_path, corpus, whole, monkeypatch):
    recipe = tiny_recipe(tmp_path / "run", corpus, steps=STEPS, trackers=())
    reporter, write = AtStep(STEPS - 9, lambda: monkeypatch.setattr(PatientFile, "add", no_room)), PatientFile.add

    def no_room(file: PatientFile, data: bytes = b"") -> None:
        with full_disk():
            write(file, data)

    result = train(recipe, reporter)
    assert result.finished and result.loss == whole.loss and (result.folder / "result.json").exists()
    assert "the last 9 records found no room and are lost" in reporter.warnings[-1]
    assert len(read_metrics(result.folder / "metrics.jsonl")) == STEPS - 9


def test_a_disk_without_room_for_the_model_is_said_before_the_first_step(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr("beichen.util.files.shutil.disk_usage", lambda place: SimpleNamespace(free=100_000))
    with pytest.raises(StorageError, match=r"are needed and 100 kB are free"):
        train(tiny_recipe(tmp_path / "run", corpus))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    monkeypatch.undo()
    assert train(tiny_recipe(tmp_path / "run", corpus, steps=2)).finished


def test_a_folder_that_never_took_a_step_may_be_used_anew(tmp_path, corpus, monkeypatch):
    """The wrong file first, then the right one: no other folder is needed, and nothing of the first attempt is used."""
    other = tmp_path / "other.jsonl"
    text = next(text for number in range(20, 60) if not is_held_out(text := "zzzz " * number, 0.05))
    other.write_text(json.dumps({"text": text}) + '\n{"text": 5}\n')
    with pytest.raises(DataError, match=r"other\.jsonl:2: 'text' is int, not a string"):
        train(tiny_recipe(tmp_path / "run", other))
    other.write_text(json.dumps({"text": text}))
    with pytest.raises(DataError, match="too few to hold out"):
        train(tiny_recipe(tmp_path / "run", other))
    assert not (tmp_path / "run" / "tokenizer").exists(), "said before a tokenizer is trained"
    other.write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "another text"}))
    monkeypatch.setattr("beichen.util.files.shutil.disk_usage", lambda place: SimpleNamespace(free=100_000))
    with pytest.raises(StorageError, match="are free"):
        train(tiny_recipe(tmp_path / "run", other))
    monkeypatch.undo()
    assert (tmp_path / "run" / "tokenizer").exists(), "of a text that is not the next attempt's"
    result = train(tiny_recipe(tmp_path / "run", corpus, steps=2))
    fresh = train(tiny_recipe(tmp_path / "fresh", corpus, steps=2))
    assert result.loss == fresh.loss and result.bits_per_byte == fresh.bits_per_byte


MISSING: dict[str, dict[str, Any]] = {
    "text": {},
    "text with a tokenizer": {"tokenizer": {"path": "model"}},
    "dialogues": {"tokenizer": {"path": "model"}, "data": {"kind": "dialogues"}},
    "preferences": {"model": {"start_from": "model"}, "data": {"kind": "preferences"}},
    "a model": {"model": {"start_from": "nothing"}},
}


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_file_leaves_nothing_behind(tmp_path, whole, case):
    changes = json.loads(json.dumps(MISSING[case]).replace('"model"}', json.dumps(str(whole.folder)) + "}"))
    data = {"files": [str(tmp_path / "missing.jsonl")], "sequence_length": 32, **changes.pop("data", {})}
    out = tmp_path / "deep" / "run"
    with pytest.raises(BeichenError):
        train(tiny_recipe(out, tmp_path, **changes, data=data))
    assert not list(tmp_path.iterdir())
    out.mkdir(parents=True)
    (out / "note.txt").touch()
    with pytest.raises(BeichenError):
        train(tiny_recipe(out, tmp_path, **changes, data=data))
    assert [entry.name for entry in out.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("way", ["sdpa", "documents"])
def test_attention_in_another_way_learns_the_same(tmp_path, corpus, whole, way):
    result = train(tiny_recipe(tmp_path / "run", corpus, steps=STEPS, attention=way))
    assert result.loss == pytest.approx(whole.loss, rel=1e-4)


def test_a_way_that_cannot_run_is_refused_before_the_first_step(tmp_path, corpus):
    given = tiny_recipe(tmp_path / "run", corpus, attention="varlen")
    for begin in (train, plan):
        with pytest.raises(SettingsError, match=r"attention: varlen cannot run here \(cpu, float32\): runs on NVIDIA's accelerators"):
            begin(given)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_one_process_at_a_time(tmp_path, corpus):
    with FolderLock(tmp_path / "run"), pytest.raises(StorageError, match="in use by process"):
        train(tiny_recipe(tmp_path / "run", corpus))


def test_fine_tuning_goes_on_from_a_run(tmp_path, whole):
    dialogues = write_dialogues(tmp_path / "dialogues.jsonl")
    data = {"files": [str(dialogues)], "kind": "dialogues", "sequence_length": 64}
    result = train(tiny_recipe(tmp_path / "tuned", dialogues, steps=25, model={"start_from": str(whole.folder)}, data=data))
    losses = [record["loss"] for record in read_metrics(result.folder / "metrics.jsonl")]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert result.bits_per_byte is None and result.held_out_loss is not None, "dialogues are held out too; no plain text is"
    answer = beichen.load(result.folder, device="cpu", dtype="float32").chat([{"role": "user", "content": "the cat sat"}], max_new_tokens=4)
    assert answer.finish_reason in ("stop", "length")


def test_the_module_is_the_function(whole):
    with pytest.raises(SettingsError, match="finished run"):
        beichen.train({"out": str(whole.folder), "budget": {"steps": 1}})


def test_nothing_held_out_gives_no_held_out_figures(tmp_path, corpus):
    data = {"files": [str(corpus)], "sequence_length": 32, "held_out_fraction": 0.0}
    result = train(tiny_recipe(tmp_path / "run", corpus, steps=2, data=data))
    assert result.bits_per_byte is None and result.held_out_loss is None


def test_bf16_runs_and_keeps_float32_masters_in_its_state(tmp_path, corpus):
    recipe = tiny_recipe(tmp_path / "run", corpus, steps=4, dtype="bfloat16", checkpoint={"every_minutes": 1e-6, "keep": 9})
    result = train(recipe)
    assert {tensor.dtype for tensor in load_file(result.folder / "model.safetensors").values()} == {torch.bfloat16}


def test_a_dry_run_leaves_a_run_that_is_under_way_alone(tmp_path, corpus):
    recipe = tiny_recipe(tmp_path / "run", corpus, steps=4)
    train(recipe)
    (tmp_path / "run" / "config.json").unlink()  # as a run that was stopped before its end leaves it
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with FolderLock(tmp_path / "run"):
        assert plan(recipe).expected_steps == 4
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"} == {
        path: time for path, time in before.items() if path.name != ".lock"
    }


def test_what_may_change_is_named_as_the_recipe_names_it():
    assert set(FREE_TO_CHANGE) <= {field.name for field in dataclasses.fields(TrainRecipe)}
