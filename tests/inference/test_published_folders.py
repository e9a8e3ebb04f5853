"""Folders as published, with random weights: load, chat format, ends, defaults, an answer, and saving byte for byte."""

import json
import shutil

import pytest

import beichen
from beichen.errors import TokenizerError
from beichen.inference.language_model import LanguageModel
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder
from tests.shared_data import shared
from tests.text.agreement import FOLDER, golden_tokenizer

CASES = [  # family, tokenizer, rows of the embedding, generation_config, chat format, notes
    ("telechat", "telechat-12b", 120000, "generation_config.12b.json", "telechat", ()),
    ("telechat52b", "telechat-52b", 80896, "generation_config.json", "telechat52b", ("user_token_id 20", "bot_token_id 21")),
    ("telechat2", "telechat2-115b", 131072, "generation_config.json", "telechat2-115b", ()),
    ("telechat2", "telechat2-7b", 131072, None, "telechat2", ()),
    ("ndl", "ndl", 60930, None, "ndl", ()),
]


def published_folder(place, family: str, name: str, rows: int, generation: str | None):
    """A checkpoint folder with a tiny decoder of that family and the golden tokenizer's files."""
    config = load_family(family).new_config(
        vocab_size=rows, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=64,
        tie_word_embeddings=False,
    )  # fmt: skip
    LanguageModel(Decoder(config), None, family=family).save(place)
    golden_tokenizer(name).save(place)
    if generation is not None:
        shutil.copy(FOLDER / name / generation, place / "generation_config.json")
    return place


@pytest.mark.parametrize(("family", "name", "rows", "generation", "template", "notes"), CASES, ids=[case[4] for case in CASES])
def test_a_stock_folder_answers_in_its_own_format(tmp_path, family, name, rows, generation, template, notes):
    shared("golden/tokenizers")
    folder = published_folder(tmp_path / "stock", family, name, rows, generation)
    model = beichen.load(folder, device="cpu", dtype="float32")
    tokenizer = golden_tokenizer(name)
    assert model.tokenizer.template == template
    assert model.stop_ids == (tokenizer.end_id,)
    assert len(model.notes) == len(notes) and all(words in note for words, note in zip(notes, model.notes, strict=True))
    request = model.chat_request([{"role": "user", "content": "你好"}], max_new_tokens=4)
    if generation is not None:
        told = json.loads((folder / "generation_config.json").read_text())
        assert request.sampling.repetition_penalty == told["repetition_penalty"]
        assert (request.sampling.temperature, request.sampling.top_k) == (0.0, None)
    answer = model.chat([{"role": "user", "content": "你好"}], max_new_tokens=4)
    assert all(token < tokenizer.vocab_size for token in answer.ids)
    model.save(tmp_path / "again")
    for path in folder.iterdir():
        if path.suffix not in (".safetensors", ".py") and path.name not in ("config.json", "digests.json"):
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_another_model_s_tokenizer_is_refused(tmp_path):
    shared("golden/tokenizers")
    folder = published_folder(tmp_path / "mixed", "telechat2", "telechat-12b", 131072, None)
    with pytest.raises(TokenizerError, match="the tokenizer has 120000 ids, the model's embedding 131072 rows") as caught:
        beichen.load(folder, device="cpu", dtype="float32")
    assert "another model" in str(caught.value)
    folder = published_folder(tmp_path / "small", "telechat", "telechat2-7b", 120000, None)
    with pytest.raises(TokenizerError, match="ids from 120000 on mean nothing to it"):
        beichen.load(folder, device="cpu", dtype="float32")


def test_a_named_format_speaks_and_is_saved(tmp_path):
    shared("golden/tokenizers")
    folder = published_folder(tmp_path / "stock", "telechat52b", "telechat-52b", 80896, "generation_config.json")
    model = beichen.load(folder, device="cpu", dtype="float32", template="telechat52b-mindformers")
    assert model.chat_request([{"role": "user", "content": "你好"}]).prompt_ids[:2] == [27, 25]
    model.save(tmp_path / "chosen")
    assert beichen.load(tmp_path / "chosen", device="cpu", dtype="float32").tokenizer.template == "telechat52b-mindformers"
