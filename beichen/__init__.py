"""Beichen: from raw text to a language model that talks.

``model = beichen.load(DIR)``, ``model.generate(...)``, ``model.chat(messages)``, ``beichen.train(recipe)``; docs/python.md has
the tour. Names are imported when first used, so ``import beichen`` costs nothing and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from beichen import errors

if TYPE_CHECKING:
    from beichen.checkpoints.tokenizers import load_tokenizer
    from beichen.inference.language_model import load
    from beichen.train.run import train

__version__ = "0.1.0"
__all__ = ["__version__", "errors", "load", "load_tokenizer", "train"]

_HOMES = {"load": "beichen.inference.language_model", "load_tokenizer": "beichen.checkpoints.tokenizers"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "train":  # the package, which can be called: a function of this name would vanish behind its package's first import
        return import_module("beichen.train")
    raise AttributeError(f"module 'beichen' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
