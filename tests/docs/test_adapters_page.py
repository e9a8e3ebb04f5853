"""docs/adapters.md: every setting is named, the table of layers is what the families say, and the Chinese page shows the same."""

from __future__ import annotations

import dataclasses
import re

import pytest

from beichen.models.linear_names import choose
from beichen.models.registry import FAMILIES, load_family
from beichen.train.adapter_settings import AdapterSettings
from tests.models.test_adapters import tiny
from tests.shared_data import REPOSITORY

PAGES = [(REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in ("adapters.md", "adapters.zh.md")]


@pytest.mark.parametrize("page", PAGES, ids=["english", "chinese"])
def test_every_setting_is_named(page):
    for field in dataclasses.fields(AdapterSettings):
        assert f"`lora.{field.name}" in page, field.name


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_called_as_the_family_calls_them(family):
    """Some row of the table names exactly the layers of a block: each name of it is an end of one, and none is left."""
    ends = [name.partition(".0.")[2] for name in choose(["all-linear"], load_family(family), tiny(family)) if ".0." in name]
    rows = [re.findall(r"`([\w.]+)`", line) for line in PAGES[0].splitlines() if line.startswith("| ")]

    def fits(row: list[str]) -> bool:
        named = [end for end in ends if any(end == name or end.endswith("." + name) for name in row)]
        return len(named) == len(ends)

    assert any(fits(row) for row in rows), ends


def test_both_pages_show_the_same():
    english, chinese = ([re.sub(r" *# .*", "", block) for block in re.findall(r"```\w*\n(.*?)```", page, re.DOTALL)] for page in PAGES)
    assert english == chinese and len(english) == 4
