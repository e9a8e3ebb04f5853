"""docs/experts.md and its Chinese twin: the recipe that they show can be read, and every setting is named."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import yaml

from beichen.config import read_settings
from beichen.train.experts_settings import ExpertsTrainingSettings
from beichen.train.settings import TrainRecipe
from tests.shared_data import REPOSITORY


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", ["experts.md", "experts.zh.md"])
def test_the_recipe_shown_is_one_and_names_every_setting(page):
    (block,) = blocks(page)
    shown = yaml.safe_load(block)
    recipe = read_settings(TrainRecipe, {"out": "x", "budget": {"steps": 1}, **shown}, name="page")
    assert recipe.model.experts is not None and set(shown["experts_training"]) == {item.name for item in fields(ExpertsTrainingSettings)}
    assert [block] == blocks("experts.md")
