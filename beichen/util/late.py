"""``resolve``: what a registry names as ``module:attribute``, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def resolve(path: str) -> Any:
    """The attribute of the module, as in ``beichen.objectives.dpo:objective``."""
    module, attribute = path.split(":")
    return getattr(import_module(module), attribute)
