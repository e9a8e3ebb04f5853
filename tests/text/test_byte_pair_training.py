import json

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from beichen.errors import TokenizerError
from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.pre_tokenization import PATTERNS, split_pattern
from tests.text.trained import ODD_TEXTS, SPECIALS, sentences, small_tokenizer


def merge_slowly(text: str, pattern: str, vocabulary: dict[str, int], merges: list[list[str]]) -> list[int]:
    """Byte-pair encoding by its definition: in every cut, apply the earliest learnt merge until none is left."""
    letter = {byte: character for character, byte in byte_alphabet().items()}
    rank = {tuple(pair): place for place, pair in enumerate(merges)}
    ids = []
    for piece in regex.findall(pattern, text):
        parts = [letter[byte] for byte in piece.encode()]
        while len(parts) > 1:
            place = min(range(len(parts) - 1), key=lambda at: rank.get((parts[at], parts[at + 1]), len(rank)))
            if (parts[place], parts[place + 1]) not in rank:
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [vocabulary[part] for part in parts]
    return ids


@pytest.mark.parametrize("name", PATTERNS)
def test_encoding_is_byte_pair_encoding(name, tmp_path):
    tokenizer = train_tokenizer(sentences(300), vocab_size=350, pattern=name)
    tokenizer.save(tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    for text in (*ODD_TEXTS, *sentences(50, seed=1), "<_end> [x]"):
        assert tokenizer.encode(text) == merge_slowly(text, split_pattern(name), model["vocab"], model["merges"])


def test_control_tokens_come_first_then_every_byte_then_merges():
    tokenizer = small_tokenizer()
    assert tokenizer.vocab_size == 400
    assert [tokenizer.special_ids[name] for name in SPECIALS] == list(range(13))
    assert {tokenizer.token_bytes(token) for token in range(13, 13 + 256)} == {bytes([value]) for value in range(256)}
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id) == (1, 2, 3)


def test_same_texts_give_the_same_file():
    first, second = (train_tokenizer(iter(list(sentences(300))), vocab_size=350) for _ in range(2))
    assert first.fingerprint == second.fingerprint


@given(text=st.one_of(st.text(), st.sampled_from(ODD_TEXTS)))
def test_every_text_comes_back(text):
    tokenizer = small_tokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_too_few_texts_give_a_smaller_vocabulary():
    assert 13 + 256 < train_tokenizer(["ab ab ab"], vocab_size=5000).vocab_size < 300


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_an_empty_corpus_is_named(texts):
    with pytest.raises(TokenizerError, match="empty"):
        train_tokenizer(texts, vocab_size=400)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vocab_size": 268}, "268 is too small: 13 control tokens and 256 bytes need 269"),
        ({"special_tokens": ("<_end>", "<_end>")}, "repeat"),
        ({"special_tokens": ("<a>", "<b>")}, "start token '<_start>' is not among"),
        (
            {"special_tokens": ("<_unk>", "<_start>", "<_end>", "<_pad>")},
            "needs control tokens that are not listed: <_system>, <_user>, <_bot>",
        ),
        ({"pattern": "han4"}, "did you mean 'han'"),
        ({"template": "telechat9"}, "no chat template is called 'telechat9'"),
    ],
)
def test_bad_settings_are_named(settings, words):
    from beichen.errors import BeichenError

    with pytest.raises(BeichenError, match=regex.escape(words)):
        train_tokenizer(sentences(3), **{"vocab_size": 400, **settings})
