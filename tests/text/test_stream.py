import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.text.stream import IncrementalDecoder
from beichen.text.tokenizer import read_tokenizer
from tests.shared_data import shared
from tests.text.agreement import DEFAULTS, golden_tokenizer
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
    tokenizer = read_tokenizer(folder)
    for row in map(json.loads, (folder / "decode_cases.jsonl").read_text().split("\n")[:-1]):
        assert "".join(pushed(tokenizer, row["ids"], skip_special=False)) == row["decoded"]
        assert "".join(pushed(tokenizer, row["ids"])) == row["decoded_skip_special"]


SYMBOLS = (
    *EMOJI,
    *"中文，。「」零𠮷龘㊗éßй한あ नमस्ते مرحبا abcXYZ 019 \n\r\t\u3000\u200b",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇨🇳🇯🇵",
    "👍🏽",
    "1️⃣",
    "e\u0301",
    "\r\n",
    "天气",
    " the",
)
SPLITS = 20_000  # of each of the five golden vocabularies: 100,000 together


def ways_to_spell(data: bytes, id_of: dict[bytes, int], longest: int) -> list[list[tuple[int, int]]]:
    """For each place in the bytes: the ids that can stand there, and where they end, as far as the whole can be spelled on from there."""
    ways: list[list[tuple[int, int]]] = [[] for _ in data]
    for start in reversed(range(len(data))):
        for end in range(start + 1, min(len(data), start + longest) + 1):
            token = id_of.get(data[start:end])
            if token is not None and (end == len(data) or ways[end]):
                ways[start].append((token, end))
    return ways


@pytest.mark.parametrize("name", DEFAULTS)
def test_any_cut_into_tokens_streams_the_text_character_by_character(name):
    shared("golden/tokenizers")
    tokenizer = golden_tokenizer(name)
    control = set(tokenizer.special_ids.values())
    id_of = {piece: token for token, piece in enumerate(tokenizer.engine.pieces) if piece and token not in control}
    random_ = random.Random(name)
    symbols = [symbol for symbol in SYMBOLS if ways_to_spell(symbol.encode(), id_of, longest=12)[0]]  # NDL's lacks some single bytes
    assert len(symbols) > 0.6 * len(SYMBOLS) and {"天气", "中", "👩", " "} <= set(symbols)
    splits = broken_tokens = 0
    while splits < SPLITS:
        text = "".join(random_.choices(symbols, k=random_.randint(1, 8)))
        data = (" " if tokenizer.strips_first_space else "").encode() + text.encode()
        ways = ways_to_spell(data, id_of, longest=12)
        for _ in range(20):
            decoder, shown, place, ids = IncrementalDecoder(tokenizer), "", 0, []
            while place < len(data):
                token, place = random_.choice(ways[place])
                ids.append(token)
                shown += decoder.push(token)
                whole = data[:place].decode("utf-8", "ignore")  # all characters that have their last byte
                broken_tokens += len(whole.encode()) < place
                assert shown == (whole.removeprefix(" ") if tokenizer.strips_first_space else whole)
            assert shown + decoder.finish() == text == tokenizer.decode(ids)
            splits += 1
    assert splits == SPLITS and broken_tokens > SPLITS // 2


@pytest.mark.parametrize("name", DEFAULTS)
def test_any_ids_stream_as_they_decode(name):
    shared("golden/tokenizers")
    tokenizer = golden_tokenizer(name)
    random_ = random.Random(name)
    special = list(tokenizer.special_ids.values())
    for _ in range(300):
        ids = [
            random_.choice(special) if random_.random() < 0.1 else random_.randrange(len(tokenizer)) for _ in range(random_.randint(0, 12))
        ]
        for skip_special in (True, False):
            pieces = pushed(tokenizer, ids, skip_special=skip_special)
            assert "".join(pieces) == tokenizer.decode(ids, skip_special=skip_special)
            for place in range(len(ids)):  # what was shown is never taken back by what follows
                assert tokenizer.decode(ids, skip_special=skip_special).startswith("".join(pieces[: place + 1]))
