"""Every named objective exists; an unknown name is answered with the nearest and with all."""

from __future__ import annotations

import pytest

from beichen.errors import SettingsError
from beichen.objectives.next_token import next_token
from beichen.objectives.registry import OBJECTIVES, objective


def test_every_name_resolves():
    assert {objective(name) for name in OBJECTIVES} == {next_token}


def test_an_unknown_name_is_answered():
    with pytest.raises(
        SettingsError, match=r"'supervise' is not known \(did you mean 'supervised'\?\); known: language_modelling, supervised"
    ):
        objective("supervise")
