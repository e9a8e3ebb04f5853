"""A folder with a small random model, made once per test session."""

from __future__ import annotations

from pathlib import Path

import pytest

from beichen.inference.language_model import LanguageModel
from tests.inference.small_models import small_decoder, small_tokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    LanguageModel(small_decoder(seed=4, trained_length=192), small_tokenizer(), family="telechat2").save(folder)
    return folder
