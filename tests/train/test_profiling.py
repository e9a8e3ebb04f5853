"""A profile of a range of steps: traces and tables of these steps alone, and the same weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from beichen.errors import SettingsError
from beichen.train.run import train
from tests.train.small_runs import tiny_recipe, write_corpus


def test_only_the_steps_of_the_range_are_timed(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    timed = train(tiny_recipe(tmp_path / "timed", corpus, steps=6, profile=[3, 4]))
    plain = train(tiny_recipe(tmp_path / "plain", corpus, steps=6))
    names = {path.name for path in (timed.folder / "profile").iterdir()}
    assert names == {f"step-00000{step}-{part}.{kind}" for step in (3, 4) for part in (1, 2) for kind in ("json", "txt")}
    assert json.loads((timed.folder / "profile" / "step-000003-1.json").read_text())["traceEvents"]
    assert "Self CPU" in (timed.folder / "profile" / "step-000003-1.txt").read_text()
    assert not (plain.folder / "profile").exists()
    ours, theirs = (load_file(run.folder / "model.safetensors") for run in (timed, plain))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    with pytest.raises(SettingsError, match=r"profile=\[4, 3\]"):
        train(tiny_recipe(tmp_path / "no", corpus, profile=[4, 3]))
