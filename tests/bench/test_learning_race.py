"""The race's split is the one that its figures are about; its recipe can be read."""

from __future__ import annotations

from beichen.config import parse_settings
from beichen.train.settings import TrainRecipe
from bench.learning_race import EXPECTED_DOCUMENTS, EXPECTED_HELD_OUT, RECIPE, split_documents, summary
from tests.shared_data import shared

FILES = ("zh_lctt_articles.jsonl.zst", "zh_novels_classic.jsonl.zst", "en_docs.jsonl.zst", "en_tinyshakespeare.jsonl")


def test_the_split_is_the_race():
    split = split_documents([str(shared(f"data/corpus/{name}")) for name in FILES])
    assert (len(split.seen) + len(split.held_out), len(split.held_out)) == (EXPECTED_DOCUMENTS, EXPECTED_HELD_OUT)
    assert round(split.held_out_bytes / 1e6, 2) == 1.69
    assert round(sum(len(text.encode()) for text in split.seen) / 1e6, 1) == 33.8


def test_the_recipe_is_a_recipe_of_ten_minutes():
    recipe = parse_settings(TrainRecipe, (), [RECIPE])
    assert recipe.budget.minutes == 10
    assert recipe.data.held_out_fraction == 0.05
    assert recipe.model.family in summary(recipe)
