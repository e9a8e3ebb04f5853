"""Every setting of a recipe stands in a page of docs/ or in a recipe; docs/training.md and its Chinese twin say and show the same."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from beichen.config import read_settings
from beichen.train.loop_state import LoopState
from beichen.train.settings import TrainRecipe
from beichen.train.step import Gathered
from beichen.train.step_figures import StepFigures
from tests.shared_data import REPOSITORY

PAGES = {name: (REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in ("training.md", "training.zh.md")}
FENCED = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def settings_of(kind: Any, before: str = "") -> Iterator[str]:
    """The path of every field, through sections, lists and optional ones."""
    hints = typing.get_type_hints(kind)
    for item in fields(kind):
        yield f"{before}{item.name}"
        for inner in (hints[item.name], *typing.get_args(hints[item.name])):
            if is_dataclass(inner):
                yield from settings_of(inner, f"{before}{item.name}.")


def words_in_code(page: str) -> set[str]:
    """What stands in backticks, word by word."""
    spans: list[str] = re.findall(r"`([^`\n]+)`", FENCED.sub("", page))
    return {word for span in spans for word in re.findall(r"\w+", span)}


def keys_of(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from node
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from keys_of(one)


def documented(pages: list[str], recipes: list[Path]) -> set[str]:
    shown = [yaml.safe_load(code) for page in pages for kind, code in FENCED.findall(page) if kind == "yaml"]
    shown += [yaml.safe_load(recipe.read_text(encoding="utf-8")) for recipe in recipes]
    return {word for page in pages for word in words_in_code(page)} | set(keys_of(shown))


@pytest.mark.parametrize("ending", [".md", ".zh.md"])
def test_every_setting_stands_in_a_page_or_a_recipe(ending):
    pages = [path for path in (REPOSITORY / "docs").glob("*.md") if path.name.endswith(".zh.md") == (ending == ".zh.md")]
    known = documented([path.read_text(encoding="utf-8") for path in pages], sorted((REPOSITORY / "recipes").rglob("*.yaml")))
    paths = list(settings_of(TrainRecipe))
    assert {"data.phases.rate.course", "lora.base_format", "model.experts.num_experts"} <= set(paths)
    assert [path for path in paths if path.rpartition(".")[2] not in known] == []


def test_the_page_names_every_key_of_a_step():
    state = LoopState()
    figures = StepFigures(learning_rate=1.0, flops_per_token=1.0, steps_per_epoch=1.0, matmul_peak=1.0, tokens_per_byte=1.0)
    gathered = Gathered(losses=[1.0], auxiliary={}, figures={}, tokens=1, targets=1, target_weight=1.0)
    record = figures.record(state, gathered, rate_factor=1.0, gradient_norm=1.0, seconds=1.0)
    rows = {word for line in PAGES["training.md"].splitlines() if line.startswith("| `") for word in words_in_code(line)}
    assert sorted(set(record) - rows) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_settings_shown_can_be_read(page):
    shown = [yaml.safe_load(code) for kind, code in FENCED.findall(PAGES[page]) if kind == "yaml"]
    assert shown
    for one in shown:
        read_settings(TrainRecipe, {"out": "x", "budget": {"steps": 1}, **one}, name=page)


def test_both_pages_show_the_same():
    english, chinese = ([re.sub(r" *# .*", "", code) for _, code in FENCED.findall(page)] for page in PAGES.values())
    assert english == chinese
    assert words_in_code(PAGES["training.md"]) - words_in_code(PAGES["training.zh.md"]) == set()
