"""Preference runs: the held-out margin rises, the reference is computed once and kept, a stopped run ends with the same weights."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from beichen.data.batch import collate
from beichen.errors import CheckpointError, DataError
from beichen.train.metrics import read_metrics
from beichen.train.preferences import REFERENCE
from beichen.train.run import train
from beichen.train.step import gather
from beichen.util.progress import SilentReporter, Task
from tests.objectives.test_preference import decoder, rated, rows_of
from tests.train.small_runs import WORDS, AtStep, tiny_recipe, write_corpus, write_dialogues


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny checkpoint to begin from."""
    folder = tmp_path_factory.mktemp("model")
    corpus = write_corpus(folder / "corpus.jsonl", documents=40)
    return train(tiny_recipe(folder / "run", corpus, steps=5)).folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Short answers are better than long ones."""
    rng, lines = random.Random(0), []
    for _ in range(60):
        prompt, short = " ".join(rng.choices(WORDS, k=3)), rng.choice(WORDS)
        lines.append({"instruction": prompt, "input": "", "chosen": short, "rejected": " ".join(rng.choices(WORDS, k=3))})
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ratings(tmp_path_factory, pairs) -> Path:
    """The same, one answer a line."""
    lines = []
    for line in map(json.loads, pairs.read_text(encoding="utf-8").splitlines()):
        for side, label in (("chosen", True), ("rejected", False)):
            lines.append({"prompt": line["instruction"], "completion": line[side], "label": label})
    path = tmp_path_factory.mktemp("ratings") / "ratings.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def recipe(out: Path, model: Path, file: Path, *, steps: int = 20, **changes: Any) -> dict[str, Any]:
    data = {"files": [str(file)], "kind": "preferences", "sequence_length": 96, "held_out_fraction": 0.2}
    learning = {"name": "adamw", "learning_rate": 3e-3}
    return tiny_recipe(
        out, file, steps=steps, **{"model": {"start_from": str(model)}, "tokenizer": {}, "data": data, "optimizer": learning, **changes}
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model, pairs) -> Path:
    """A run that nothing stopped."""
    return train(recipe(tmp_path_factory.mktemp("whole") / "run", model, pairs)).folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_held_out_margin_rises(whole):
    result = json.loads((whole / "result.json").read_text())["preference"]
    assert result["before"]["margin"] == 0.0 and result["before"]["units"] == result["after"]["units"] > 5
    assert result["after"]["margin"] > 0.1 and result["after"]["accuracy"] >= 0.8
    assert result["after"]["log_odds"] > result["before"]["log_odds"]
    first, *_, last = read_metrics(whole / "metrics.jsonl")
    assert first["margin"] == pytest.approx(0.0, abs=1e-3) and first["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert last["margin"] > 0.1 and last["accuracy"] > 0.8
    assert last["chosen_reward"] - last["rejected_reward"] == pytest.approx(last["margin"], rel=1e-4)


@pytest.mark.parametrize("kind", ["ipo", "kto"])
def test_other_losses_raise_it_too(tmp_path, model, pairs, ratings, kind):
    result = train(recipe(tmp_path / "run", model, ratings if kind == "kto" else pairs, preference={"kind": kind, "sft_weight": 0.1}))
    assert result.preference is not None
    assert result.preference["before"]["margin"] == 0.0 and result.preference["after"]["margin"] > 0.05
    assert "sft_loss" in read_metrics(result.folder / "metrics.jsonl")[-1]


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_a_stopped_run_ends_with_the_same_weights(tmp_path, model, pairs, whole, kind):
    changes: dict[str, Any] = {} if kind == "dpo" else {"preference": {"kind": "kto"}}
    expected = whole if kind == "dpo" else train(recipe(tmp_path / "whole", model, pairs, **changes)).folder
    given = recipe(tmp_path / "run", model, pairs, **changes)
    assert not train(given, AtStep(7, lambda: os.kill(os.getpid(), signal.SIGINT))).finished
    result = train(given)
    assert result.finished
    found, wanted = weights(result.folder), weights(expected)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


class StopsWhileScoring(SilentReporter):
    """Ends the run within the pass over the reference, or counts its batches."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.batches = after, 0

    @contextmanager
    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> Iterator[Task]:
        with super().track(label, total=total, unit=unit, begun=begun) as task:
            yield self if label == "reference" else task

    def set(self, done: float, **figures: float | str) -> None:
        return

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        self.batches += 1
        if self.batches == self.after:
            raise KeyboardInterrupt


def test_the_reference_is_computed_once_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, model, pairs, whole):
    monkeypatch.setattr("beichen.train.reference.SAVE_SECONDS", 0.0)
    everything = StopsWhileScoring()
    train(recipe(tmp_path / "other", model, pairs, steps=1), everything)
    given, stopped, again = recipe(tmp_path / "run", model, pairs, steps=1), StopsWhileScoring(after=4), StopsWhileScoring()
    with pytest.raises(KeyboardInterrupt):
        train(given, stopped)
    result = train(given, again)
    assert everything.batches > 5 and again.batches == everything.batches - 3, "of the four, the last was not saved any more"
    found, wanted = (load_file(folder / REFERENCE)["log_probabilities"] for folder in (result.folder, whole))
    assert torch.equal(found, wanted) and wanted.isfinite().all()


def stopped(folder: Path, model: Path, pairs: Path) -> dict[str, Any]:
    given = recipe(folder, model, pairs)
    assert not train(given, AtStep(3, lambda: os.kill(os.getpid(), signal.SIGINT))).finished
    return given


def test_a_run_that_was_begun_never_changes_its_reference(tmp_path, model, pairs):
    mine = tmp_path / "pairs.jsonl"
    mine.write_bytes(pairs.read_bytes())
    given = stopped(tmp_path / "run", model, mine)
    lines = mine.read_text(encoding="utf-8").splitlines(keepends=True)
    mine.write_text("".join(reversed(lines)), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"begun with another reference \(documents changed\)"):
        train(given)
    mine.write_text("".join(lines), encoding="utf-8")
    (tmp_path / "run" / REFERENCE).unlink()
    with pytest.raises(CheckpointError, match=f"{REFERENCE} is missing"):
        train(given)


def test_a_run_without_steps_computes_it_anew_where_something_changed(tmp_path, monkeypatch, model, pairs):
    monkeypatch.setattr("beichen.train.reference.SAVE_SECONDS", 0.0)
    mine = tmp_path / "pairs.jsonl"
    mine.write_bytes(pairs.read_bytes())
    given = recipe(tmp_path / "run", model, mine, steps=1)
    with pytest.raises(KeyboardInterrupt):
        train(given, StopsWhileScoring(after=4))
    mine.write_text("".join(mine.read_text(encoding="utf-8").splitlines(keepends=True)[:40]), encoding="utf-8")
    assert train(given).finished


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"instruction": "a", "chosen": "cat", "rejected": "cat"}, r"bad\.jsonl:2: the chosen and the rejected answer are the same"),
        ({"instruction": "cat " * 80, "chosen": "cat", "rejected": "dog"}, r"bad\.jsonl:2: the chosen answer is wholly cut"),
        ({"prompt": "a", "completion": "cat", "label": True}, r"bad\.jsonl:2: one rated dialogue"),
    ],
)
def test_what_cannot_be_learnt_is_named_by_file_and_line(tmp_path, model, line, message):
    file = tmp_path / "bad.jsonl"
    lines = [{"instruction": "a", "chosen": "cat", "rejected": "dog"}, line]
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(DataError, match=message):
        train(recipe(tmp_path / "run", model, file))


def test_dialogues_are_no_preferences(tmp_path, model):
    with pytest.raises(DataError, match=r"dialogues\.jsonl:1: no preference data"):
        train(recipe(tmp_path / "run", model, write_dialogues(tmp_path / "dialogues.jsonl")))


def test_the_reference_point_is_that_of_the_whole_step():
    tokens, objective = rated()
    source, policy = rows_of(tokens), decoder()
    rows = [source.row(index) for index in range(6)]
    one = gather(policy, [collate(rows)], objective, seed=0, step=0)
    several = gather(policy, [collate(rows[:1]), collate(rows[1:])], objective, seed=0, step=0)
    assert one.loss == pytest.approx(several.loss, rel=1e-6)
    alone = gather(policy, [collate(rows[:1])], objective, seed=0, step=0)
    assert float(alone.figures["reference_point"]) / alone.target_weight != pytest.approx(
        float(one.figures["reference_point"]) / one.target_weight, rel=1e-3
    )
