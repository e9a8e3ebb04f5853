"""Laws: what a stop string leaves of a text does not depend on how the text is cut into pieces; no answer ends in half a character."""

from __future__ import annotations

import random
from itertools import product

import pytest

from beichen.inference.api import Request, join
from beichen.inference.stopping import AnswerText, StopStrings, text_of
from beichen.inference.vllm.generator import _Answer
from beichen.text.tokenizer import Tokenizer
from tests.inference.test_constraints import VOCABULARIES


def shown(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    finder = StopStrings(stops)
    text = "".join(finder.push(piece) for piece in pieces)
    return text + ("" if finder.found else finder.finish()), finder.found


@pytest.mark.parametrize("seed", range(300))
def test_cuts_do_not_matter(seed):
    rng = random.Random(seed)
    alphabet = "ab好\n"
    text = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 14)))
    stops = ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(0, 3))]
    whole = shown([text], stops)
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if ends:
        longest = max(len(stop) for stop in stops if text[: ends[0]].endswith(stop))
        assert whole == (text[: ends[0] - longest], True)
    else:
        assert whole == (text, False)
    for _ in range(20):
        cuts = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(0, 6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert shown(pieces, stops) == whole


def test_text_is_shown_as_soon_as_it_is_safe():
    finder = StopStrings(["END"])
    assert [finder.push(piece) for piece in ("abE", "Nd", "E", "ND more")] == ["ab", "ENd", "", ""]
    assert finder.found


def half_of_a_character(data: bytes) -> int:
    """How many bytes at the end may yet become a character, by trying what may follow them."""

    def is_one(tried: bytes) -> bool:
        try:
            return len(tried.decode()) == 1
        except UnicodeDecodeError:
            return False

    ends = [bytes(end) for size in (1, 2, 3) for end in product((0x80, 0xBF), repeat=size)]
    return next((size for size in (1, 2, 3) if len(data) >= size and any(is_one(data[-size:] + end) for end in ends)), 0)


def random_ids(tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    """Texts, with ids between that mean anything."""
    plain = [token for token in range(tokenizer.vocab_size) if token not in tokenizer.special_ids.values()]
    ids: list[int] = []
    while len(ids) < 30:
        text = "".join(rng.choice("a好🙂é ") for _ in range(rng.randint(1, 4)))
        ids += tokenizer.encode(text) if rng.random() < 0.7 else [rng.choice(plain)]
    return ids


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_wherever_ids_end_the_text_ends_with_a_whole_character_and_all_before_is_the_full_decode(kind, seed):
    tokenizer, rng = VOCABULARIES[kind](), random.Random(seed)
    ids = random_ids(tokenizer, rng)
    for end in range(len(ids) + 1):
        known, whole = ids[:end], tokenizer.decode(ids[:end])
        size = half_of_a_character(b"".join(map(tokenizer.token_bytes, known)))
        marks = size if tokenizer.strips_first_space else min(size, 1)  # how ``decode`` tells of them
        assert whole.endswith("\ufffd" * marks)
        expected = whole[: len(whole) - marks]
        assert text_of(tokenizer, known) == expected
        followed = AnswerText(tokenizer, ("certainly not there",))
        assert "".join(map(followed.push, known)) + followed.finish() == expected
        if known:
            told = _Answer("vllm", Request(prompt_ids=[1], max_new_tokens=len(known)), tokenizer)
            for place in range(1, end + 1):
                told.take(known[:place], "length" if place == end else None)
            assert join(told.deltas).text == expected and join(told.deltas).ids == tuple(known)
