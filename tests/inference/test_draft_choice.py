"""Who drafts is chosen by name, and a model of other tokens is refused."""

from __future__ import annotations

import pytest

from beichen.errors import SettingsError
from beichen.inference.draft_choice import drafting_by_model, drafting_from_text
from beichen.inference.language_model import LanguageModel
from beichen.text.byte_pair_training import train_tokenizer
from tests.inference.small_models import TEXTS, small_decoder, small_tokenizer


def test_the_text_or_a_folder_drafts_and_the_answer_stays(tmp_path):
    model = LanguageModel(small_decoder(seed=2), small_tokenizer(), family="telechat2")
    LanguageModel(small_decoder(seed=2), small_tokenizer(), family="telechat2").save(tmp_path / "small")
    plain = model.generate("今天天气很好，今天天气", max_new_tokens=30).ids
    for drafting in (drafting_from_text(tokens=3), drafting_by_model(model, tmp_path / "small", tokens=3)):
        model.generator.resize(drafting=drafting)
        assert model.generate("今天天气很好，今天天气", max_new_tokens=30).ids == plain
    assert model.generator.engine.accepted > 10  # of itself


def test_other_tokens_and_no_folder_are_refused(tmp_path):
    model = LanguageModel(small_decoder(), small_tokenizer(), family="telechat2")
    other = train_tokenizer([*TEXTS, "其他的文字其他的文字"], vocab_size=320)
    LanguageModel(small_decoder(), other, family="telechat2").save(tmp_path / "other")
    with pytest.raises(SettingsError, match="its tokenizer is not that of"):
        drafting_by_model(model, tmp_path / "other", tokens=3)
    with pytest.raises(SettingsError, match="expected the folder of a small model"):
        drafting_by_model(model, tmp_path / "none", tokens=3)
