import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from beichen.errors import TokenizerError
from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.tokenizer_json import TokenizerJson
from tests.shared_data import shared

ALPHABET = byte_alphabet()


def byte_level(*added: tokenizers.AddedToken, words: tuple[str, ...] = (), **model) -> tokenizers.Tokenizer:
    vocabulary = {character: number for number, character in enumerate([*ALPHABET, *words])}
    library = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], **model))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    library.decoder = decoders.ByteLevel()
    for token in added:
        (library.add_special_tokens if token.special else library.add_tokens)([token])
    return library


def engine(library: tokenizers.Tokenizer) -> TokenizerJson:
    return TokenizerJson(library.to_str().encode(), origin="tokenizer.json")


def test_alphabet_is_the_published_one():
    assert set(ALPHABET) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(ALPHABET.values()) == list(range(256))


TAGS = ("<|end|>", "<tool_call>", "[SEP]", "</think>")


@given(
    text=st.lists(st.sampled_from([*TAGS, "<|end", "|>", "tool", "_call>", "[", "SEP]", "<", ">", " ", "\n", "好", "词语"])).map("".join)
)
def test_no_text_becomes_a_control_token_and_ordinary_added_tokens_stay(text):
    """Control tokens: marked special, or a tag whatever its mark. Added text (a newline, a word) is ordinary and keeps its id."""
    added = [tokenizers.AddedToken(name, special=place % 2 == 0, normalized=False) for place, name in enumerate(TAGS)]
    ordinary = [tokenizers.AddedToken(name, special=False, normalized=False) for name in ("\n", "词语")]
    library = byte_level(*added[:2], *ordinary, *added[2:])
    ours = engine(library)
    ids = ours.encode(text)
    assert not set(ids) & set(ours.control_ids.values())
    assert b"".join(ours.pieces[token] for token in ids) == text.encode()
    assert ours.encode(text, allow_special=True) == library.encode(text, add_special_tokens=False).ids
    for word in ("\n", "词语"):
        assert [token for token in ids if token == library.token_to_id(word)] == [library.token_to_id(word)] * text.count(word)


def test_a_whole_word_in_the_vocabulary_is_no_way_in():
    """With ignore_merges a cut that is a piece is taken at once: also then the piece of a control token is out of reach."""
    library = byte_level(tokenizers.AddedToken("<>", special=True, normalized=False), words=("<>", "ab"), ignore_merges=True)
    ours = engine(library)
    assert ours.control_ids == {"<>": 256}
    assert ours.encode("ab<>") == [257, ALPHABET_ID["<"], ALPHABET_ID[">"]]


ALPHABET_ID = {character: number for number, character in enumerate(ALPHABET)}


def test_pieces_with_space_marks_and_byte_fallback():
    """A vocabulary written with U+2581 (Llama 2): bytes joined are what the library decodes, first space apart."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256)), "▁", "a", "b", "▁a", "好"]
    vocabulary = {word: number for number, word in enumerate(words)}
    library = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    ours = engine(library)
    assert ours.leading_space_mark
    for text in ("a b", "  ab", "好😀", "</s> a", "é"):
        ids = ours.encode(text)
        assert not set(ids) & {0, 1, 2}
        assert b"".join(ours.pieces[token] for token in ids).decode() == " " + text
        assert library.decode(ids) == text


def test_golden_encodings_and_decodings():
    folder = shared("golden/tokenizers/ndl")
    ours = TokenizerJson((folder / "tokenizer.json").read_bytes(), origin="ndl")
    names = tuple(ours.control_ids)
    for row in map(json.loads, (folder / "cases.jsonl").read_text().split("\n")[:-1]):
        assert ours.encode(row["text"], allow_special=True) == row["ids"]
        plain = ours.encode(row["text"])
        assert (plain == row["ids"]) == (not any(name in row["text"] for name in names))
        assert not set(plain) & set(ours.control_ids.values())
        assert b"".join(ours.pieces[token] for token in row["ids"]).decode("utf-8", "replace") == row["decoded"]
    for row in map(json.loads, (folder / "decode_cases.jsonl").read_text().split("\n")[:-1]):
        assert b"".join(ours.pieces[token] for token in row["ids"]).decode("utf-8", "replace") == row["decoded"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://example", "not JSON"),
        (b"[1]", "expected 'model' with a 'vocab'"),
        (b'{"model": {}}', "expected 'model' with a 'vocab'"),
        (b'{"model": {"type": "WordPiece", "vocab": {"a": 0}}}', "'WordPiece' is not supported"),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "vocabulary is empty"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}', "not a usable tokenizer"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}}}', "not a usable tokenizer"),
        (b'{"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}}', "not a usable tokenizer"),
    ],
)
def test_broken_files_are_named(data, words):
    with pytest.raises(TokenizerError, match=words) as caught:
        TokenizerJson(data, origin="folder/tokenizer.json")
    assert "folder/tokenizer.json" in str(caught.value)
