import json

from hypothesis import given
from hypothesis import strategies as st

from beichen.text.stream import IncrementalDecoder
from beichen.text.tokenizer import load_tokenizer
from tests.shared_data import shared
from tests.text.trained import small_tokenizer

EMOJI = "你👨‍👩‍👧😀🏳️‍🌈𠮷é"


def pushed(tokenizer, ids, **settings):
    decoder = IncrementalDecoder(tokenizer, **settings)
    return [*(decoder.push(token) for token in ids), decoder.finish()]


@given(ids=st.lists(st.integers(0, 399)))
def test_pieces_joined_are_the_full_decode(ids):
    tokenizer = small_tokenizer()
    for skip_special in (True, False):
        assert "".join(pushed(tokenizer, ids, skip_special=skip_special)) == tokenizer.decode(ids, skip_special=skip_special)


@given(text=st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(EMOJI))))
def test_whole_text_never_shows_a_broken_character(text):
    tokenizer = small_tokenizer()
    shown = ""
    for piece in pushed(tokenizer, tokenizer.encode(text)):
        shown += piece
        assert text.startswith(shown)
    assert shown == text


@given(data=st.binary())
def test_broken_bytes_become_the_same_marks_as_in_one_go(data):
    tokenizer = small_tokenizer()
    id_of = {tokenizer.token_bytes(token): token for token in range(13, 13 + 256)}
    ids = [id_of[bytes([value])] for value in data]
    assert "".join(pushed(tokenizer, ids)) == data.decode("utf-8", "replace")


def test_a_character_appears_with_its_last_byte():
    tokenizer = small_tokenizer()
    ids = tokenizer.encode("😀")
    assert len(ids) == 4
    assert pushed(tokenizer, ids) == ["", "", "", "😀", ""]
    assert pushed(tokenizer, ids[:3]) == ["", "", "", "\ufffd"]


def test_golden_decodings():
    folder = shared("golden/tokenizers/ndl")
    tokenizer = load_tokenizer(folder)
    for row in map(json.loads, (folder / "decode_cases.jsonl").read_text().split("\n")[:-1]):
        assert "".join(pushed(tokenizer, row["ids"], skip_special=False)) == row["decoded"]
        assert "".join(pushed(tokenizer, row["ids"])) == row["decoded_skip_special"]
