"""docs/preferences.md and its Chinese twin: every objective has its line."""

from __future__ import annotations

import pytest

from beichen.objectives.registry import PREFERENCE_OBJECTIVES
from tests.shared_data import REPOSITORY


@pytest.mark.parametrize("page", ["preferences.md", "preferences.zh.md"])
def test_every_objective_has_its_line(page):
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in PREFERENCE_OBJECTIVES if f"\n| `{name}` " not in text and f"\n| `{name}`（" not in text] == []
