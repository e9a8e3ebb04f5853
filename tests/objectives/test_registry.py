"""Every named objective exists and reads what it says; an unknown name is answered with the nearest and with all."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from beichen.config import read_settings
from beichen.errors import SettingsError
from beichen.objectives.next_token import next_token
from beichen.objectives.preference_settings import PreferenceSettings
from beichen.objectives.registry import OBJECTIVES, PREFERENCE_OBJECTIVES, objective, preference_objective
from beichen.objectives.types import StepObjective


def test_every_name_resolves():
    assert {objective(name) for name in OBJECTIVES} == {next_token}


@pytest.mark.parametrize("name", PREFERENCE_OBJECTIVES)
def test_every_objective_of_preferences_is_made_of_its_settings(name):
    """An objective that is the same whichever way an option of its own is set does not read it."""
    reference, entry = torch.zeros(4), PREFERENCE_OBJECTIVES[name]
    plain = preference_objective(PreferenceSettings(kind=name), reference)
    assert isinstance(plain, StepObjective) is not entry.paired, "only a reference point has to see a whole step"
    assert set(entry.options) <= {option.name for option in fields(PreferenceSettings)}
    for option in entry.options:
        changed = read_settings(PreferenceSettings, {"kind": name, option: 0.25}, name="preference")
        assert repr(preference_objective(changed, reference)) != repr(plain)


def test_an_unknown_name_is_answered():
    with pytest.raises(SettingsError, match=r"'next_tokn' is not known \(did you mean 'next_token'\?\); known: next_token"):
        objective("next_tokn")
