"""Every recipe of the repository is valid settings; its head says what it needs, how it is run, what comes of it, how long it takes."""

from __future__ import annotations

import pytest

from beichen.config import parse_settings
from beichen.models.linear_names import choose
from beichen.models.registry import load_family
from beichen.train.settings import TrainRecipe
from tests.models.test_adapters import tiny
from tests.shared_data import REPOSITORY

RECIPES = sorted((REPOSITORY / "recipes").rglob("*.yaml"))
ADAPTED = {"lora.yaml": "telechat2", "lora_mindformers.yaml": "telechat", "ner_lora.yaml": "ndl"}  # the family that each is for


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_recipe(path):
    files = ["--data.files", "[x.jsonl]"] if "\n  files:" not in path.read_text() and "sources" not in path.read_text() else []
    recipe = parse_settings(TrainRecipe, files, [path])
    assert recipe.out.startswith("runs/")
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("needs", "command", "result", "time"):
        assert any(line.startswith(f"#   {word} ") for line in head), word
    assert any(str(path.relative_to(REPOSITORY)) in line for line in head), "the command names the file itself"


@pytest.mark.parametrize("path", [path for path in RECIPES if path.name in ADAPTED], ids=lambda path: path.name)
def test_its_adapters_find_their_layers(path):
    recipe = parse_settings(TrainRecipe, ["--data.files", "[x.jsonl]"], [path])
    assert recipe.lora is not None
    family = ADAPTED[path.name]
    found = {name.partition(".0.")[2] for name in choose(recipe.lora.patterns, load_family(family), tiny(family)) if ".0." in name}
    assert len(found) == len(recipe.lora.patterns)
