"""Objectives by name, resolved when asked for: one line each.

In ``OBJECTIVES`` stands the objective itself, in ``PREFERENCE_OBJECTIVES`` the function that makes it of settings and reference: an
objective of preferences compares the model with the one that the run began from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from beichen.errors import SettingsError, nearest
from beichen.util.late import resolve

if TYPE_CHECKING:  # settings are read where no torch is needed
    from torch import Tensor

    from beichen.objectives.preference_settings import PreferenceSettings
    from beichen.objectives.types import Objective


@dataclass(frozen=True, kw_only=True)
class OfPreferences:
    """What settings must know of an objective of preferences."""

    make: str  # (PreferenceSettings, log-probabilities of all documents under the reference) -> Objective
    paired: bool  # two answers are compared; False: each answer is good or bad by itself
    options: tuple[str, ...] = ()  # the settings that it reads and not every other does


OBJECTIVES = {
    "next_token": "beichen.objectives.next_token:next_token",
}
PREFERENCE_OBJECTIVES = {
    "dpo": OfPreferences(make="beichen.objectives.dpo:objective", paired=True, options=("label_smoothing",)),
    "ipo": OfPreferences(make="beichen.objectives.ipo:objective", paired=True),
    "kto": OfPreferences(make="beichen.objectives.kto:objective", paired=False, options=("good_weight", "bad_weight")),
}


def objective(name: str) -> Objective:
    """The objective of that name. Raises SettingsError with the known names."""
    if name not in OBJECTIVES:
        raise SettingsError(f"objective: '{name}' is not known{nearest(name, OBJECTIVES)}; known: {', '.join(OBJECTIVES)}")
    found: Objective = resolve(OBJECTIVES[name])
    return found


def preference_objective(settings: PreferenceSettings, reference: Tensor) -> Objective:
    """The one that the settings name. reference [documents] float32, on the decoder's device"""
    made: Objective = resolve(PREFERENCE_OBJECTIVES[settings.kind].make)(settings, reference)
    return made
