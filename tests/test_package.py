"""What ``import beichen`` offers."""

from __future__ import annotations

from importlib import import_module

import pytest

import beichen
from beichen import errors


def test_the_public_names_are_sorted_and_all_exist():
    assert beichen.__all__ == sorted(beichen.__all__)
    for name in beichen.__all__:
        assert getattr(beichen, name) is not None
    assert dir(beichen) == beichen.__all__


def test_the_public_functions_are_those_of_their_modules():
    from beichen.checkpoints.tokenizers import load_tokenizer
    from beichen.inference.language_model import load

    assert beichen.load is load and beichen.load_tokenizer is load_tokenizer


def test_the_package_train_can_be_called():
    import_module("beichen.train.settings")  # sets the attribute `train` of the package to the module
    with pytest.raises(errors.SettingsError, match="recipe: unknown key 'stpes'"):
        beichen.train({"stpes": 3})


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        beichen.lode  # noqa: B018  (asking for it is the test)
