import re
from functools import lru_cache
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from beichen.errors import TokenizerError
from beichen.text.sentencepiece_engine import SentencePieceEngine
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from tests.text.sentencepiece_models import (
    CONTROLS,
    NORMAL,
    TAGS,
    UNUSED,
    fact,
    message,
    model_file,
    piece,
    settings,
    trained_model,
)
from tests.text.trained import ODD_TEXTS

ROLES = ("<_start>", "<_end>", "<_pad>")
WORDS = ("▁", "a", "b", "ab", "▁a", "▁ab", "aba", "▁▁", "▁▁▁▁", "好", "你", "你好", "ba", "abab")
NAMES = (*TAGS, *ROLES, "<_system>", "<_unk>", "<0x41>")


def texts() -> st.SearchStrategy[str]:
    parts = {name[start:end] for name in NAMES for start in range(len(name)) for end in range(start + 1, len(name) + 1)}
    return st.one_of(
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00")),
        st.text(alphabet="ab 好你_0\n▁😀"),
        st.lists(st.sampled_from([*NAMES, *sorted(parts), " ", "你好", "a"])).map("".join),
        st.builds(lambda unit, times: unit * times, st.text(alphabet="ab -=_", min_size=1, max_size=3), st.integers(1, 60)),
    )


@lru_cache(maxsize=1)
def trained() -> SentencePieceEngine:
    return SentencePieceEngine(trained_model(), origin="trained", roles=ROLES)


@lru_cache(maxsize=1)
def written() -> SentencePieceEngine:
    return SentencePieceEngine(model_file(WORDS), origin="written", roles=ROLES)


@lru_cache(maxsize=2)
def library(engine) -> Any:
    return sentencepiece.SentencePieceProcessor(model_proto=trained_model() if engine is trained else model_file(WORDS))


@lru_cache(maxsize=1)
def tokenizer_of_trained() -> Tokenizer:
    return Tokenizer({"tokenizer.model": trained_model(), "tokenizer_config.json": settings()}, origin="here")


@pytest.mark.parametrize("engine", [trained, written])
@given(text=texts())
def test_ids_are_those_of_the_library(engine, text):
    """Without our care for control tokens, one call is one call of SentencePiece, id for id."""
    theirs = library(engine)
    assert engine()._published.encode_batch([text], prefixed=True) == [theirs.encode(text)]


@given(text=texts())
def test_plain_text_never_becomes_a_control_token_and_comes_back(text):
    engine = trained()
    for continues in (False, True):
        ids = engine.encode(text, continues=continues)
        assert not set(ids) & set(engine.control_ids.values())
        assert b"".join(engine.pieces[token] for token in ids).decode() == (" " if text and not continues else "") + text.replace("▁", " ")
    assert engine.encode_batch([text]) == [engine.encode(text)]


@given(parts=st.lists(st.one_of(st.sampled_from(ROLES), st.text(alphabet="ab 好\n", min_size=1, max_size=5))))
def test_allowed_control_tokens_end_a_run_of_text(parts):
    """As the published classes do: each part between recognised names is a text of its own."""
    engine = trained()
    text = "".join(parts)
    expected: list[int] = []
    for part in re.split(f"({'|'.join(ROLES)})", text):
        expected += [engine.control_ids[part]] if part in ROLES else engine.encode(part)
    assert engine.encode(text, allow_special=True) == expected


def test_kinds_of_pieces():
    engine = written()
    assert list(engine.control_ids) == ["<_unk>", *CONTROLS, *TAGS]
    assert engine.inline_ids == {engine.control_ids[name] for name in ("<_unk>", "<_system>", *TAGS)}
    assert engine.unknown_id == 0 and engine.piece_name(4) == TAGS[0] and engine.token_of("你好") == engine.vocab_size - 3
    assert engine.encode("<_user>", allow_special=True)[1:] == [engine.control_ids["<_user>"]]


def test_control_tokens_come_from_the_pieces(tmp_path):
    """K6, K7, K9, K11: roles by name wherever the settings are silent or wrong; the unknown token's name is never used."""
    files = {"tokenizer.model": trained_model(), "tokenizer_config.json": settings(), "specail_tokens_map.json": b'{"bos_token": "?"}'}
    tokenizer = Tokenizer(files, origin="here")
    assert (tokenizer.end_id, tokenizer.start_id, tokenizer.pad_id) == (2, 1, 3)
    assert tokenizer.special_ids["<_system>"] == 4 and tokenizer.special_ids["<_user>"] == 5
    assert Tokenizer({"tokenizer.model": trained_model()}, origin="here").end_id == 2
    tokenizer.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert read_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


def test_added_tokens_have_their_pieces_ids():
    """K10: an added name that is a piece is that piece; another id for it, or a taken id, is refused; a new one stands after all."""
    engine = written()
    size = engine.vocab_size
    tokenizer = Tokenizer({"tokenizer.model": model_file(WORDS), "added_tokens.json": b'{"<tool>": %d}' % size}, origin="here")
    assert tokenizer.special_ids["<tool>"] == size and tokenizer.vocab_size == size + 1
    assert tokenizer.encode("a<tool>", allow_special=True)[-1] == size not in tokenizer.encode("a<tool>")
    for added, words in (
        (b'{"<_user>": 9}', "'<_user>' the id 9, but in this file that name has the id 4"),
        (b'{"<new>": 4}', "that id is the piece '<_user>'"),
    ):
        with pytest.raises(TokenizerError, match=re.escape(words)):
            Tokenizer({"tokenizer.model": model_file(WORDS), "added_tokens.json": added}, origin="here")


@given(ids=st.lists(st.integers(0, 559)))
def test_decoding_keeps_every_text_between_control_tokens(ids):
    tokenizer = tokenizer_of_trained()
    shown = [token for token in ids if token not in tokenizer.engine.hidden_ids]
    assert tokenizer.decode(ids) == tokenizer.decode(shown, skip_special=False)
    if not set(shown) & set(tokenizer.special_ids.values()):
        assert tokenizer.decode(shown) == library(trained).decode(shown)


@pytest.mark.parametrize("text", [text for text in ODD_TEXTS if "▁" not in text])
def test_odd_texts_come_back(text):
    assert tokenizer_of_trained().decode(tokenizer_of_trained().encode(text)) == text


UNIGRAM, CHANGES = fact(3, 1) + fact(35, 1), message(2, b"map") + fact(4, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs", "not a SentencePiece file"),
        (b"", "holds no pieces"),
        (model_file(WORDS)[:-3], "not a SentencePiece file"),
        (model_file(WORDS, trainer=UNIGRAM), "its algorithm is not BPE"),
        (model_file(WORDS, trainer=fact(3, 2) + fact(24, 1)), "spaces behind words"),
        (model_file(WORDS, normalizer=CHANGES), "its normaliser changes characters"),
        (model_file(WORDS, normalizer=b""), "its normaliser removes spaces"),
        (model_file(WORDS, normalizer=fact(4, 0) + fact(5, 0)), "does not write spaces as"),
        (model_file(WORDS, more=piece("x", 0, UNUSED)), "unused pieces"),
        (model_file([*WORDS, "ac"]), "characters that are no pieces themselves"),
        (model_file(WORDS, bytes_kind=NORMAL), "lacks the 256 byte pieces"),
    ],
)
def test_files_that_cannot_be_read_exactly_are_refused_by_name(data, words):
    with pytest.raises(TokenizerError, match=words) as caught:
        SentencePieceEngine(data, origin="folder/tokenizer.model")
    assert "folder/tokenizer.model" in str(caught.value)
