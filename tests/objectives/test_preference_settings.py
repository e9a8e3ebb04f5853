"""Preference settings refuse what no run can have, and what would be set without effect, by key."""

from __future__ import annotations

from typing import Any

import pytest

from beichen.config import read_settings
from beichen.errors import SettingsError
from beichen.objectives.registry import PREFERENCE_OBJECTIVES
from beichen.train.settings import TrainRecipe


def read(preference: dict[str, Any] | None = None, data: dict[str, Any] | None = None, start_from: str | None = "model") -> TrainRecipe:
    recipe = {"out": "runs/x", "budget": {"steps": 3}, "model": {"start_from": start_from},
              "data": {"files": ["pairs.jsonl"], "kind": "preferences", **(data or {})}, "preference": preference or {}}  # fmt: skip
    return read_settings(TrainRecipe, recipe, name="recipe")


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        ({"kind": "dop"}, rf"preference\.kind: 'dop' is not known \(did you mean 'dpo'\?\); known: {', '.join(PREFERENCE_OBJECTIVES)}$"),
        ({"beta": 0.0}, "preference.beta=0.0"),
        ({"label_smoothing": 0.5}, "preference.label_smoothing=0.5"),
        ({"kind": "ipo", "label_smoothing": 0.1}, "preference.label_smoothing: ipo has none"),
        ({"sft_weight": -1.0}, "preference.sft_weight=-1.0"),
        ({"kind": "kto", "good_weight": 0.0}, "preference.good_weight=0.0"),
        ({"bad_weight": 2.0}, "preference.bad_weight: dpo has none"),
    ],
)
def test_values_are_checked(preference, message):
    with pytest.raises(SettingsError, match=message):
        read(preference)


def test_what_would_have_no_effect_is_refused():
    with pytest.raises(SettingsError, match=r"preference: set, but data\.kind is not preferences"):
        read({"beta": 0.2}, {"kind": "dialogues"})
    with pytest.raises(SettingsError, match=r"data\.isolate_documents"):
        read(data={"isolate_documents": False})
    with pytest.raises(SettingsError, match=r"model\.start_from: preferences need a model"):
        read(start_from=None)
    with pytest.raises(SettingsError, match=r"data\.encoded: holds text, not preferences"):
        read(data={"encoded": "folder", "files": []})


def test_only_kto_takes_answers_one_by_one():
    assert read().preference.paired and read({"kind": "ipo"}).preference.paired
    assert not read({"kind": "kto", "bad_weight": 2.0}).preference.paired
