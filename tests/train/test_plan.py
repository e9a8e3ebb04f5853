"""Mixtures and curricula of whole runs: what they read, at which rate, and that a kill changes nothing."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from beichen.checkpoints.tokenizers import load_tokenizer
from beichen.data.encode_settings import EncodeSettings
from beichen.data.encoded_text import open_encoded_text
from beichen.data.encoding_job import encode_sources
from beichen.data.source_list import read_source_file
from beichen.errors import SettingsError
from beichen.train.metrics import read_metrics
from beichen.train.result import TrainResult
from beichen.train.run import plan, train
from tests.train.small_runs import tiny_recipe, write_corpus, write_dialogues
from tests.train.test_run import start, wait_for_steps


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sources")
    files = [write_corpus(folder / f"{name}.jsonl", documents=number, seed=number) for name, number in (("many", 120), ("few", 40))]
    return [{"name": file.stem, "files": [str(file)], "weight": weight} for file, weight in zip(files, (1.0, 0.5), strict=True)]


def curriculum(out: Path, sources: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    phases = [
        {"name": "first", "until_tokens": 3000, "sequence_length": 16, "rate": {"warmup": 0.2}},
        {"name": "second", "until_tokens": 9000, "weights": {"few": 3.0, "many": 1.0}, "rate": {"course": "cosine", "end": 0.3}},
        {"name": "annealing", "until_tokens": 12000, "weights": {"few": 1.0}, "sequence_length": 64, "rate": {"begin": 0.3, "end": 0.0}},
    ]
    data = {"sources": sources, "sequence_length": 32, "phases": phases, "held_out_fraction": 0.1}
    recipe = tiny_recipe(out, out, data=data, checkpoint={"every_minutes": 1e-4, "keep": 1})
    return {key: value for key, value in (recipe | changes).items() if key != "budget"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, sources) -> TrainResult:
    return train(curriculum(tmp_path_factory.mktemp("runs") / "whole", sources))


def test_a_curriculum_runs_to_the_end_of_its_last_phase(whole) -> None:
    """4 rows of 32 are a step, 8 rows of 16, 2 rows of 64; each phase ends at its row, not at a whole step."""
    steps = [24, 47, 24]  # 188 rows of 16, 188 of 32, 47 of 64
    assert whole.finished and whole.steps == sum(steps)
    records = read_metrics(whole.folder / "metrics.jsonl")
    factors = [record["rate_factor"] for record in records]
    assert factors[0] < 0.3 and max(factors[:24]) == 1.0 == factors[24] and factors[70] == pytest.approx(0.3) == factors[71]
    assert factors[-1] == 0.0
    sizes = [after["tokens"] - before["tokens"] for before, after in zip([{"tokens": 0}, *records], records, strict=False)]
    assert max(sizes) == 128 and sizes[23] <= 64 and sizes[-1] <= 64
    assert 0.95 * (188 * 16 + 188 * 32 + 47 * 64) < whole.tokens <= 188 * 16 + 188 * 32 + 47 * 64
    assert set(whole.bits_per_byte_by_source) == {"many", "few"} and whole.bits_per_byte is not None
    assert min(whole.bits_per_byte_by_source.values()) <= whole.bits_per_byte <= max(whole.bits_per_byte_by_source.values())


def test_kills_in_any_phase_change_no_bit(tmp_path, sources, whole) -> None:
    recipe = curriculum(tmp_path / "run", sources)
    for steps in (10, 40):
        process = start(recipe, tmp_path / "run")
        wait_for_steps(process, tmp_path / "run", steps, saved=True)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=200)
    result = train(recipe)
    assert (result.loss, result.bits_per_byte_by_source) == (whole.loss, whole.bits_per_byte_by_source)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (result.folder, whole.folder))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_the_plan_says_what_the_run_does_and_leaves_nothing_behind(tmp_path, sources, whole) -> None:
    planned = plan(curriculum(tmp_path / "run", sources))
    assert not (tmp_path / "run").exists()
    records = read_metrics(whole.folder / "metrics.jsonl")
    assert [planned.rate(step, 0.0) for step in range(whole.steps)] == [record["rate_factor"] for record in records]
    figures = planned.as_dict()
    assert [stretch["steps"] for stretch in figures["stretches"]] == [24, 47, 24]
    assert figures["rates"] == [(step * 128, planned.rate(step, 0.0)) for step in range(95)]
    second = figures["stretches"][1]["uses"]
    assert second["few"]["epochs"] == pytest.approx(3 * second["many"]["epochs"], rel=0.15)
    lines = planned.as_text().splitlines()
    assert len(lines) == 1 + 2 + 2 + 1
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        "phase",
        "first",
        "second",
        "annealing",
    ]
    assert "0.3 to 0" in lines[-1] and "9,024" in lines[3]


@pytest.mark.parametrize(("budget", "known"), [({"steps": 50}, True), ({"minutes": 1.0}, False)])
def test_a_plan_without_phases_says_steps_tokens_and_rate(tmp_path, sources, budget, known) -> None:
    recipe = tiny_recipe(tmp_path, tmp_path / "run", data={"sources": sources, "sequence_length": 32}, budget={"steps": None, **budget})
    planned = plan(recipe)
    _, first, *_ = planned.as_text().splitlines()
    per_step = planned.recipe.batch.rows_per_step
    steps = 50 if known else math.ceil(planned.stages.steps_per_epoch)
    assert f"{steps * per_step * 32:,}" in first and f"{steps * per_step:,} of 32" in first and f"  {steps:,}  " in first
    assert ("a pass" in first) != known and " to " in first
    if known:
        epochs = planned.stretches[0].uses["many"].epochs * 50 / planned.stages.steps_per_epoch
        assert f"{epochs:.2f}" in first


def test_a_mixture_of_exactly_so_many_samples(tmp_path, sources) -> None:
    data = {"sources": sources, "sequence_length": 32, "weigh_by": "shares"}
    result = train(tiny_recipe(tmp_path / "run", tmp_path, data=data, budget={"samples": 50}))
    assert result.steps == 13
    sizes = [record["tokens"] for record in read_metrics(result.folder / "metrics.jsonl")]
    assert sizes[-1] - sizes[-2] <= 2 * 32
    (stretch,) = plan(tiny_recipe(tmp_path / "new", tmp_path, data=data, budget={"samples": 50})).stretches
    assert stretch.num_rows == 50 and stretch.uses["few"].share == pytest.approx(1 / 3, abs=0.05)


def test_dialogues_are_weighted_alike(tmp_path, whole) -> None:
    """TeleChat's weight files are made for dialogues: 2.0 is each twice in an epoch."""
    files = [write_dialogues(tmp_path / f"{name}.jsonl", number=number) for name, number in (("a", 30), ("b", 20))]
    data: dict[str, Any] = {"held_out_fraction": 0.0, "kind": "dialogues", "sequence_length": 64}
    data["sources"] = [{"name": file.stem, "files": [str(file)], "weight": w} for file, w in zip(files, (2.0, 0.5), strict=True)]
    recipe = tiny_recipe(tmp_path / "run", tmp_path, steps=3, model={"start_from": str(whole.folder)}, data=data)
    (stretch,) = plan(recipe).stretches
    assert {name: (use.documents, use.epochs) for name, use in stretch.uses.items()} == {"a": (30, 2.0), "b": (20, 0.5)}
    starts = [int((row.positions[: row.token_count] == 0).sum()) for row in map(stretch.rows.row, range(int(stretch.rows.rows_per_epoch)))]
    assert sum(starts) == 70
    assert train(recipe).finished


def test_encoded_text_is_read_with_its_weights_grades_and_tokenizer(tmp_path, sources, whole) -> None:
    """What `beichen data encode` wrote, in two parts: sources of one name are one."""
    tokenizer = load_tokenizer(whole.folder)
    listed = tmp_path / "sources.json"
    listed.write_text(json.dumps({source["files"][0]: source["weight"] for source in sources}))
    for part in (1, 2):
        settings = EncodeSettings(grades=True, held_out_fraction=0.1, part=(part, 2))
        encode_sources(read_source_file(listed, {}), tokenizer, tmp_path / "text", settings=settings, workers=1)
    stores = open_encoded_text(tmp_path / "text").train
    middle = float(np.median(np.concatenate([store.column("difficulty") for store in stores])))
    phases = [
        {"name": "easy", "until_tokens": 2000, "grades": {"difficulty": [0, middle]}},
        {"name": "all", "until_tokens": 5000, "grades": {"quality": [0, 100]}},
    ]
    data = {"encoded": str(tmp_path / "text"), "sequence_length": 32, "phases": phases}
    recipe = curriculum(tmp_path / "run", sources, data=data, tokenizer={})
    easy, rest = plan(recipe).stretches
    admitted = sum(int((store.column("difficulty") <= middle).sum()) for store in stores)
    assert sum(use.documents for use in easy.uses.values()) == admitted < sum(use.documents for use in rest.uses.values())
    assert sum(use.documents for use in rest.uses.values()) == sum(store.num_documents for store in stores)
    result = train(recipe)
    assert result.finished and len(result.bits_per_byte_by_source) == 2
    assert load_tokenizer(result.folder).fingerprint == tokenizer.fingerprint


def test_a_weight_file_of_telechat_is_a_mixture(tmp_path, sources) -> None:
    listed = tmp_path / "data.json"
    listed.write_text(json.dumps({source["files"][0]: 2 * source["weight"] for source in sources}))
    data = {"sources_file": str(listed), "sequence_length": 32}
    (stretch,) = plan(tiny_recipe(tmp_path / "run", tmp_path, data=data)).stretches
    assert [use.epochs for use in stretch.uses.values()] == pytest.approx([2.0, 1.0], abs=0.03)
    listed.write_text(json.dumps({sources[0]["files"][0]: {"weight": 2.0, "clean": ["nfkc"]}}))
    with pytest.raises(SettingsError, match="with options of its own") as fault:
        plan(tiny_recipe(tmp_path / "run", tmp_path, data=data))
    assert "beichen data encode" in str(fault.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"files": ["a.jsonl"]}, "give one of files, sources, sources_file and encoded"),
        ({"phases": [{"name": "x", "until_tokens": 5, "weights": {"fewer": 1.0}}]}, "names source 'fewer'; data.sources has many, few"),
        ({"phases": [{"name": n, "until_tokens": 5} for n in "xy"]}, "'y' ends at 5 tokens, where the one before had ended at 5"),
        ({"phases": [{"name": "x", "until_tokens": n} for n in (5, 9)]}, "'x' is the name of two"),
        ({"phases": [{"name": "x", "until_tokens": 5, "rate": {}}, {"name": "y", "until_tokens": 9}]}, "some have a rate"),
        ({"phases": [{"name": "x", "until_tokens": 5, "weights": {"few": 0.0}}]}, "few=0.0: must be above 0"),
        ({"phases": [{"name": "x", "until_tokens": 5, "grades": {"quality": [1.0, 0.5]}}]}, "quality from 1.0 to 0.5"),
        ({"phases": [{"name": "x", "until_tokens": 500, "sequence_length": 48}]}, "choose a sequence length that divides both"),
        ({"phases": [{"name": "x", "until_tokens": 5}], "kind": "dialogues"}, "data.phases: dialogues have none"),
        ({"weigh_by": "tokens"}, "epochs"),
    ],
)  # fmt: skip
def test_what_no_plan_can_follow_is_refused_by_key(tmp_path, sources, data, message) -> None:
    with pytest.raises(SettingsError) as fault:
        plan(tiny_recipe(tmp_path, tmp_path, data={"sources": sources, "sequence_length": 32} | data)).as_text()
    assert message in str(fault.value)
