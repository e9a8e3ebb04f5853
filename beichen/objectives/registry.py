"""Objectives by name, resolved when asked for: one line each."""

from __future__ import annotations

from importlib import import_module

from beichen.errors import SettingsError, nearest
from beichen.objectives.types import Objective

OBJECTIVES = {
    "language_modelling": "beichen.objectives.next_token:next_token",
    "supervised": "beichen.objectives.next_token:next_token",
}


def objective(name: str) -> Objective:
    """The objective of that name. Raises SettingsError with the known names."""
    if name not in OBJECTIVES:
        raise SettingsError(f"objective: '{name}' is not known{nearest(name, OBJECTIVES)}; known: {', '.join(OBJECTIVES)}")
    module, attribute = OBJECTIVES[name].split(":")
    found: Objective = getattr(import_module(module), attribute)
    return found
