"""docs/models.md and its Chinese twin show what ``beichen models`` prints, and name every switch and layout."""

from __future__ import annotations

import pytest

from beichen.models.registry import FAMILIES, load_family
from tests.docs.models_page import BLOCK, PAGES, printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_shows_what_the_command_prints(page):
    shown = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert shown == [printed()], "run `python -m tests.docs.models_page`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_explains_every_switch_and_layout_outside_the_table(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for family in map(load_family, FAMILIES):
        assert f"`{family.name}`" in text
        assert all(f"`{name}`" in text for name in (*family.compatibility, *(name for name in family.layouts if "_mp" not in name)))
