"""Ids of the C++ encoder are those of ``tokenizers``, id for id."""

import copy
import json
import pickle
import random

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from beichen.data.sources import read_documents
from beichen.text import compiled
from beichen.text.byte_pair_encoding import fast_encoder
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.pre_tokenization import PATTERNS
from beichen.text.tokenizer import Tokenizer
from beichen.text.tokenizer_json import TokenizerJson
from tests.shared_data import shared
from tests.text.trained import ODD_TEXTS, sentences, small_tokenizer

pytestmark = pytest.mark.skipif(not compiled.status().available, reason=compiled.status().reason)

TOKENIZERS = {name: train_tokenizer(sentences(400), vocab_size=700, pattern=name) for name in PATTERNS}


def state_of(tokenizer: Tokenizer) -> dict:
    return json.loads(tokenizer._files["tokenizer.json"])


def both(state: dict) -> tuple[TokenizerJson, tokenizers.Tokenizer]:
    """Ours, and the library on the same vocabulary without control tokens."""
    ours = TokenizerJson(state, origin="here")
    assert ours._fast is not None
    return ours, ours._plain


@pytest.mark.parametrize("name", PATTERNS)
@given(texts=st.lists(st.one_of(st.text(), st.sampled_from(ODD_TEXTS), st.sampled_from(list(sentences(20)))), max_size=5))
def test_ids_are_those_of_tokenizers(name, texts):
    engine = TOKENIZERS[name].engine
    assert isinstance(engine, TokenizerJson)
    expected = [engine._plain.encode(text, add_special_tokens=False).ids for text in texts]
    assert engine.encode_batch(texts) == expected
    assert [engine.encode(text) for text in texts] == expected


@pytest.mark.parametrize("change", ["plain", "ignore_merges", "nfc", "nfkc", "byte_level"])
def test_other_forms_of_the_file(change):
    state = copy.deepcopy(state_of(TOKENIZERS["gpt2"]))
    if change == "ignore_merges":  # a piece that no merge makes
        state["model"]["ignore_merges"] = True
        state["model"]["vocab"]["Ġqzx"] = len(state["model"]["vocab"])
    if change in ("nfc", "nfkc"):
        state["normalizer"] = {"type": change.upper()}
    if change == "byte_level":
        state["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    ours, theirs = both(state)
    for text in (*ODD_TEXTS, "e\u0301 qzx", *sentences(30, seed=2), "<_end>"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"pre_tokenizer": None},
        {"added_tokens": [{"id": 700, "content": "word", "special": False}]},
        {"model": {"dropout": 0.1}},
    ],
)
def test_what_the_encoder_does_not_do_is_left_to_the_library(change):
    state = copy.deepcopy(state_of(TOKENIZERS["gpt2"]))
    state["added_tokens"] = []
    assert fast_encoder(state, None) is not None
    for key, value in change.items():
        state[key] = {**state[key], **value} if key == "model" else value
    assert fast_encoder(state, None) is None


def test_long_words_and_many_words_are_encoded_alike():
    """Words longer than the short way takes, and more distinct ones than the cache holds."""
    draw = random.Random(0)
    engine = TOKENIZERS["gpt2"].engine
    assert isinstance(engine, TokenizerJson)
    texts = ["".join(draw.choice("天气上海北京喜欢小明") for _ in range(size)) for size in (21, 22, 64, 65, 5000)]
    texts.append(" ".join("".join(draw.choice("aeiouthesrd") for _ in range(6)) for _ in range(100_000)))
    assert engine.encode_batch(texts) == [engine._plain.encode(text, add_special_tokens=False).ids for text in texts]


def test_a_batch_on_many_threads_is_in_order():
    tokenizer = small_tokenizer()
    texts = [f"{number} {sentence}" * 60 for number, sentence in enumerate(sentences(1500))]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_a_copy_encodes_alike():
    tokenizer = small_tokenizer()
    assert pickle.loads(pickle.dumps(tokenizer)).encode("小明 reads") == tokenizer.encode("小明 reads")


@pytest.mark.parametrize("name", ["zh_poetry.jsonl", "en_tinyshakespeare.jsonl", "zh_lctt_articles.jsonl.zst"])
def test_ids_of_a_corpus_are_those_of_tokenizers(name):
    texts = [document.text for _, document in zip(range(150), read_documents([shared(f"data/corpus/{name}")]), strict=False)]
    for tokenizer in TOKENIZERS.values():
        engine = tokenizer.engine
        assert isinstance(engine, TokenizerJson)
        expected = [encoding.ids for encoding in engine._plain.encode_batch_fast(texts, add_special_tokens=False)]
        assert engine.encode_batch(texts) == expected
