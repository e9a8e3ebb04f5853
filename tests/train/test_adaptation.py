"""Training adapters: the base stays as it is, the result is a folder of adapters; a stopped run goes on, and another from its end."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import beichen
from beichen.errors import CheckpointError, SettingsError
from beichen.train.run import train
from tests.train.small_runs import AtStep, tiny_recipe, write_corpus, write_dialogues


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[Path, Path]:
    """A base model and dialogues."""
    folder = tmp_path_factory.mktemp("adaptation")
    base = train(tiny_recipe(folder / "base", write_corpus(folder / "corpus.jsonl"), steps=20))
    return base.folder, write_dialogues(folder / "dialogues.jsonl")


def recipe(places: tuple[Path, Path], out: Path, *, steps: int = 12, **lora: Any) -> dict[str, Any]:
    base, dialogues = places
    return tiny_recipe(
        out, dialogues, steps=steps, model={"start_from": str(base)}, lora={"rank": 4, **lora},
        optimizer={"name": "adamw", "learning_rate": 0.02},
        data={"files": [str(dialogues)], "kind": "dialogues", "sequence_length": 64},
    )  # fmt: skip


def losses(folder: Path) -> list[float]:
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if "loss" in record]


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dora": {"dora": True, "dropout": 0.2},
    "int8": {"base_format": "int8", "rslora": True, "ranks": {"down_proj": 2}},
    "nf4": {"base_format": "nf4"},
}


@pytest.mark.parametrize("form", FORMS)
def test_it_learns_and_its_folder_talks(tmp_path, places, form):
    before = (places[0] / "model.safetensors").read_bytes()
    result = train(recipe(places, tmp_path / "run", steps=25, **FORMS[form]))
    found = losses(result.folder)
    assert sum(found[-5:]) < sum(found[:5]) and not (result.folder / "model.safetensors").exists()
    assert (places[0] / "model.safetensors").read_bytes() == before
    config = json.loads((result.folder / "adapter_config.json").read_text())
    assert config["lora_dropout"] == FORMS[form].get("dropout", 0.0) and config["base_model_name_or_path"] == str(places[0].resolve())
    model = beichen.load(result.folder, device="cpu", dtype="float32")
    assert model.chat([{"role": "user", "content": "the cat"}], max_new_tokens=3).ids is not None
    with pytest.raises(SettingsError, match="holds a finished run"):
        train(recipe(places, tmp_path / "run", **FORMS[form]))


@pytest.mark.parametrize("form", ["dora", "nf4"])
def test_a_stopped_run_ends_with_the_same_adapters(tmp_path, places, form):
    """Bit for bit, dropout included."""
    whole = train(recipe(places, tmp_path / "whole", **FORMS[form]))
    half = recipe(places, tmp_path / "half", **FORMS[form])
    assert not train(half, AtStep(5, lambda: signal.raise_signal(signal.SIGINT))).finished
    assert train(half).finished
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole.folder, tmp_path / "half"))
    assert one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_another_run_goes_on_from_its_end(tmp_path, places):
    first = train(recipe(places, tmp_path / "first", rank=4, alpha=8.0, patterns=["key_value", "dense"]))
    second = train(recipe(places, tmp_path / "second", start_from=str(first.folder), rank=9, dropout=0.1, steps=1))
    config = json.loads((second.folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8.0, 0.1) and config["target_modules"] == [
        "dense",
        "key_value",
    ]
    assert losses(second.folder)[0] < losses(first.folder)[0]
    other = train(tiny_recipe(tmp_path / "base", write_corpus(tmp_path / "corpus.jsonl", seed=3), steps=2))
    with pytest.raises(CheckpointError, match="not the base that the adapter was trained on"):
        train(recipe((other.folder, places[1]), tmp_path / "third", start_from=str(first.folder)))


def test_a_run_goes_on_with_its_own_base_alone(tmp_path, places):
    base = tmp_path / "base"
    shutil.copytree(places[0], base)
    given = recipe((base, places[1]), tmp_path / "run", steps=6)
    assert not train(given, AtStep(3, lambda: signal.raise_signal(signal.SIGINT))).finished
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    (base / "digests.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"begun on the base .*base, whose weights had SHA-256 \w{12}\.\.\.; those of .*base have \w{12}"
    ):
        train(given)
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    assert train(given).finished


def test_bad_settings_are_told_before_the_first_step(tmp_path, places):
    with pytest.raises(SettingsError, match="'q_proj' is no linear layer of this telechat2 model; near: "):
        train(recipe(places, tmp_path / "run", patterns=["q_proj"]))
    with pytest.raises(SettingsError, match=r"lora\.ranks: 'dense' means no layer that lora.patterns means"):
        train(recipe(places, tmp_path / "run", patterns=["query"], ranks={"dense": 2}))
    with pytest.raises(SettingsError, match="adapters need a base"):
        train({**recipe(places, tmp_path / "run"), "model": {"hidden_size": 16, "num_attention_heads": 2}})
    for lora, key in (
        ({"rank": 0}, "rank=0"),
        ({"alpha": 0.0}, "alpha=0"),
        ({"dropout": 1.0}, "dropout=1"),
        ({"patterns": []}, "patterns"),
        ({"base": "nf4"}, r"did you mean 'base_format'\?"),
    ):
        with pytest.raises(SettingsError, match=key):
            train(recipe(places, tmp_path / "run", **lora))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
