"""A folder's small files say what it holds, without its weights."""

from __future__ import annotations

import pytest

from beichen.errors import SettingsError, TemplateError
from beichen.inference.language_model import LanguageModel
from beichen.inference.model_folder import open_folder
from tests.inference.small_models import small_decoder, small_tokenizer


def test_a_folder_without_weights_tells_what_it_is(tmp_path):
    decoder, tokenizer = small_decoder(), small_tokenizer()
    LanguageModel(decoder, tokenizer, family="telechat2").save(tmp_path / "model")
    for file in (tmp_path / "model").glob("*.safetensors"):
        file.unlink()
    opened = open_folder(tmp_path / "model")
    assert (opened.config, opened.family, opened.holds_adapter) == (decoder.config, "telechat2", False)
    own = opened.tokenizer()
    assert own is not None and own.fingerprint == tokenizer.fingerprint
    with pytest.raises(TemplateError, match="nix"):
        opened.tokenizer(template="nix")
    with pytest.raises(SettingsError, match="holds no adapter, which alone has a base"):
        open_folder(tmp_path / "model", base=tmp_path / "base")
