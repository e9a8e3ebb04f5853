"""Longer tokenizers: old ids keep their meaning, new ones are what was asked for, and other programs read the files alike."""

import json

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from beichen.errors import TokenizerError
from beichen.text.byte_pair_training import SpecialTokens, TextSource, TrainingSettings, train, train_tokenizer
from beichen.text.extension import extend_tokenizer
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from beichen.text.training.continuing import learn_further
from tests.shared_data import shared
from tests.text.sentencepiece_models import trained_model
from tests.text.trained import ODD_TEXTS, sentences, small_tokenizer


def file_of(tokenizer: Tokenizer, name: str) -> bytes:
    data = tokenizer.file(name)
    assert data is not None
    return data


def reserved_tokenizer(folder):
    specials = SpecialTokens(names=("<a>", "</a>"), reserved=2)
    settings = TrainingSettings(
        vocab_size=330, specials=specials, template=None, start=None, end="</a>", pad=None, unknown=None, pattern="qwen2"
    )
    return train(settings, [TextSource("texts", lambda consumed: sentences(200))], folder).tokenizer


def learnt(tokenizer, texts, number, folder):
    return learn_further(tokenizer, [TextSource("texts", lambda consumed: texts)], number, folder, memory=64 << 20)


def test_old_ids_keep_their_meaning_and_new_ones_are_one_token(tmp_path):
    old = small_tokenizer()
    new = extend_tokenizer(old, control=["<think>", "</think>"], words=["春天", "hello world"]).tokenizer
    assert new.vocab_size == old.vocab_size + 4
    assert [new.token_bytes(token) for token in range(old.vocab_size)] == [old.token_bytes(token) for token in range(old.vocab_size)]
    for text in (*ODD_TEXTS, *sentences(20)):
        if "春天" not in text:
            assert new.encode(text) == old.encode(text)
    ids = new.encode("上海的春天，hello world!")
    assert [new.token_bytes(token).decode() for token in ids if token >= old.vocab_size] == ["春天", "hello world"]
    assert new.decode(ids) == "上海的春天，hello world!"
    assert new.special_ids["<think>"] == old.vocab_size and new.decode(new.encode("<think>")) == "<think>"
    assert old.vocab_size not in new.encode("<think>") and new.encode("<think>", allow_special=True) == [old.vocab_size]
    new.save(tmp_path)
    assert read_tokenizer(tmp_path).encode("春天<think>") == new.encode("春天<think>")


def test_control_tokens_take_reserved_slots_first(tmp_path):
    old = reserved_tokenizer(tmp_path / "work")
    extension = extend_tokenizer(old, control=["<x>", "<y>", "<z>"])
    assert [extension.tokenizer.special_ids[name] for name in ("<x>", "<y>", "<z>")] == [2, 3, 330]
    assert "<_reserved_0>" not in extension.tokenizer.special_ids
    assert json.loads(file_of(extension.tokenizer, "tokenizer_config.json"))["additional_special_tokens"] == ["<a>", "<x>", "<y>", "<z>"]
    kept = extend_tokenizer(old, control=["<x>"], use_reserved=False).tokenizer
    assert kept.special_ids["<x>"] == 330 and kept.special_ids["<_reserved_0>"] == 2


def test_new_tokens_are_spelled_in_old_ids(tmp_path):
    old = reserved_tokenizer(tmp_path / "work")
    merges = learnt(old, ["苹果天气春天"] * 50, 5, tmp_path / "more")
    extension = extend_tokenizer(old, control=["<x>"], words=["好天"], merges=merges)
    for token, parts in extension.spelled.items():
        assert b"".join(map(old.token_bytes, parts)) == extension.tokenizer.token_bytes(token)
        assert all(part < old.vocab_size for part in parts)


def test_learning_goes_on_where_the_training_stopped(tmp_path):
    """Trained at once or in two steps on the same texts: the same merges."""
    texts = list(sentences(400))
    short, long = (train_tokenizer(texts, vocab_size=size, pattern="han") for size in (340, 400))
    merges = learnt(short, texts, 60, tmp_path / "work")
    grown = extend_tokenizer(short, merges=merges).tokenizer
    assert len(merges) == 60
    assert json.loads(file_of(grown, "tokenizer.json"))["model"] == json.loads(file_of(long, "tokenizer.json"))["model"]
    assert [grown.encode(text) for text in texts[:50]] == [long.encode(text) for text in texts[:50]]


def test_learnt_pieces_shorten_new_text_and_leave_the_rest(tmp_path):
    old = small_tokenizer()
    law = ["被告人对原审判决不服，提出上诉。", "本院认为，原审判决认定事实清楚。"] * 20
    new = extend_tokenizer(old, merges=learnt(old, law, 30, tmp_path / "work")).tokenizer
    assert sum(len(new.encode(text)) for text in law) < 0.7 * sum(len(old.encode(text)) for text in law)
    for text in (*law, *ODD_TEXTS, *sentences(30)):
        assert new.decode(new.encode(text)) == text
    theirs = tokenizers.Tokenizer.from_str(file_of(new, "tokenizer.json").decode())
    assert [theirs.encode(text, add_special_tokens=False).ids for text in law] == [new.encode(text) for text in law]


def test_gaps_are_filled_and_published_ids_outside_the_vocabulary_hold():
    state = json.loads(file_of(small_tokenizer(), "tokenizer.json"))
    pieces = state["model"]["vocab"]
    for token in state["added_tokens"]:  # as published: control tokens beside the vocabulary, behind a gap
        del pieces[token["content"]]
    moved = {piece: place for place, piece in enumerate(pieces)}
    moved = {piece: place + (place > 300) for piece, place in moved.items()}
    state["model"]["vocab"] = moved
    names = [token["content"] for token in state["added_tokens"]]
    state["added_tokens"] = [{**token, "id": 388 + place} for place, token in enumerate(state["added_tokens"])]
    state["model"]["vocab"] |= {name: 388 + place for place, name in enumerate(names)}
    files = {"tokenizer.json": json.dumps(state).encode(), "tokenizer_config.json": file_of(small_tokenizer(), "tokenizer_config.json")}
    old = Tokenizer(files, origin="made")
    extension = extend_tokenizer(old, control=["<think>"], words=["春天"])
    assert extension.tokenizer.special_ids["<think>"] == 301 and extension.tokenizer.encode("春天") == [old.vocab_size]
    assert {name: extension.tokenizer.special_ids[name] for name in names} == dict(old.special_ids)


def test_transformers_reads_the_longer_files(tmp_path):
    new = extend_tokenizer(small_tokenizer(), control=["<think>"], words=["春天"]).tokenizer
    new.save(tmp_path)
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert theirs("上海的春天", add_special_tokens=False)["input_ids"] == new.encode("上海的春天")
    assert theirs.convert_tokens_to_ids("<think>") == new.special_ids["<think>"] and len(theirs) == new.vocab_size


def test_a_sentencepiece_vocabulary_takes_control_tokens_beside_it(tmp_path):
    files = {"tokenizer.model": trained_model(), "tokenizer_config.json": b'{"eos_token": "<_end>"}'}
    old = Tokenizer(files, origin="made")
    extension = extend_tokenizer(old, control=["<think>"])
    assert extension.tokenizer.special_ids["<think>"] == old.vocab_size
    assert extension.tokenizer.encode("the <think>") == old.encode("the <think>")
    with pytest.raises(TokenizerError, match="takes no words"):
        extend_tokenizer(old, words=["春天 apples"])


def test_a_published_vocabulary_grows(tmp_path):
    old = read_tokenizer(shared("golden/tokenizers/ndl"))
    merges = learnt(old, ["这是一个关于云计算平台的说明"] * 9, 6, tmp_path / "work")
    new = extend_tokenizer(old, control=["<think>"], merges=merges).tokenizer
    assert merges and new.vocab_size == old.vocab_size + 1 + len(merges)
    assert [new.piece(token) for token in range(old.vocab_size)] == [old.piece(token) for token in range(old.vocab_size)]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"control": ["<_end>"]}, "one token already"),
        ({"words": ["a"]}, "one token already"),
        ({"control": ["<x>"], "words": ["<x>"]}, "given twice"),
        ({"words": [" "]}, "no visible character"),
    ],
)
def test_tokens_that_cannot_be_added(asked, words):
    with pytest.raises(TokenizerError, match=words):
        extend_tokenizer(small_tokenizer(), **asked)
