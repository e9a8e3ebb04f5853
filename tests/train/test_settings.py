"""A recipe refuses every value that no run can have, naming its key, and is written and read back unchanged."""

from __future__ import annotations

from typing import Any

import pytest

from beichen.config import parse_settings, read_settings, settings_as_yaml
from beichen.errors import SettingsError
from beichen.train.settings import TrainRecipe
from tests.shared_data import REPOSITORY

GOOD: dict[str, Any] = {"out": "runs/x", "budget": {"steps": 3}, "data": {"files": ["a.jsonl"]}}


def read(changes: dict[str, Any]) -> TrainRecipe:
    merged = {key: GOOD.get(key, {}) | value if isinstance(value, dict) else value for key, value in changes.items()}
    return read_settings(TrainRecipe, GOOD | merged, name="recipe")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"hidden_size": 0}}, "model.hidden_size=0"),
        ({"model": {"num_attention_heads": 0}}, "model.num_attention_heads=0"),
        ({"model": {"num_hidden_layers": -2}}, "model.num_hidden_layers=-2"),
        ({"model": {"num_key_value_heads": 0}}, "model.num_key_value_heads=0"),
        ({"model": {"hidden_size": 10, "num_attention_heads": 4}}, "model.hidden_size=10 is not a multiple of model.num_attention_heads=4"),
        ({"data": {"sequence_length": 1}}, "data.sequence_length=1"),
        ({"data": {"held_out_fraction": 1.0}}, "data.held_out_fraction=1.0"),
        ({"data": {"held_out_fraction": -0.1}}, "data.held_out_fraction=-0.1"),
        ({"data": {"kind": "document"}}, "documents"),
        ({"batch": {"rows_per_step": 0, "rows_per_micro_batch": 1}}, "batch: 0 rows a step"),
        ({"batch": {"rows_per_micro_batch": 0}}, "0 a micro-batch"),
        ({"batch": {"rows_per_step": 6, "rows_per_micro_batch": 4}}, "batch.rows_per_step=6 is not a multiple"),
        ({"optimizer": {"learning_rate": 0.0}}, "optimizer.learning_rate=0.0"),
        ({"optimizer": {"head_learning_rate": -1.0}}, "optimizer.head_learning_rate=-1.0"),
        ({"optimizer": {"beta2": 1.0}}, "optimizer.beta2=1.0"),
        ({"optimizer": {"momentum": -0.1}}, "optimizer.momentum=-0.1"),
        ({"optimizer": {"weight_decay": -0.1}}, "optimizer.weight_decay=-0.1"),
        ({"optimizer": {"clip_norm": -1.0}}, "optimizer.clip_norm=-1.0"),
        ({"optimizer": {"name": "sgd"}}, "adamw"),
        ({"schedule": {"warmup": 1.5}}, "schedule.warmup=1.5"),
        ({"schedule": {"decay": -0.5}}, "schedule.decay=-0.5"),
        ({"schedule": {"final": 2.0}}, "schedule.final=2.0"),
        ({"budget": {"steps": 0}}, "budget: steps, minutes, epochs, tokens and samples must be above 0"),
        ({"budget": {"steps": None}}, "budget: give steps, minutes, epochs, tokens or samples"),
        ({"checkpoint": {"keep": 0}}, "checkpoint.keep=0"),
        ({"checkpoint": {"every_minutes": 0.0}}, "checkpoint.every_minutes=0"),
        ({"optimiser": {}}, "optimizer"),
    ],
)
def test_what_no_run_can_have_is_refused_by_key(changes, message):
    with pytest.raises(SettingsError) as fault:
        read(changes)
    assert message in str(fault.value)


def test_a_recipe_survives_writing_and_reading(tmp_path):
    recipe = read({"model": {"num_key_value_heads": 2}, "budget": {"minutes": 0.5}, "seed": 7, "dtype": "bfloat16"})
    (tmp_path / "recipe.yaml").write_text(settings_as_yaml(recipe), encoding="utf-8")
    assert parse_settings(TrainRecipe, (), [tmp_path / "recipe.yaml"]) == recipe


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_of_the_repository_is_valid(path):
    assert parse_settings(TrainRecipe, (), [path]).out
