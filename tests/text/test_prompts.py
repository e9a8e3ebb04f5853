"""What fits into a prompt: nothing is refused that would fit, and of many turns few dialogues are tried."""

from __future__ import annotations

import json
import random
from functools import cache

import pytest

from beichen.errors import LengthError
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.encoding_runs import Bounded
from beichen.text.messages import Message
from beichen.text.prompts import last_turns
from beichen.text.tokenizer import Tokenizer
from tests.inference.small_models import TEXTS
from tests.text.sentencepiece_models import settings, trained_model

LETTERS = [
    "a",
    " ",
    "天",
    "今天天气很好",
    "e\u0301",
    "\u1112\u1161\u11ab",
    "\uff41",
    "\U0001d41e\u0301",
    "\ufdfa",
    "🙂",
    "\n",
    "hello",
    "\0",
]


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    if kind == "sentencepiece":
        return Tokenizer({"tokenizer.model": trained_model(), "tokenizer_config.json": settings()}, origin="made")
    plain = train_tokenizer(TEXTS * 3, vocab_size=400)
    if kind == "plain":
        return plain
    state = json.loads(plain.file("tokenizer.json") or b"")
    shape = {"type": kind, "strip_left": True, "strip_right": True} if kind == "Strip" else {"type": kind}
    return plain.with_files({"tokenizer.json": json.dumps({**state, "normalizer": shape}).encode()})


@pytest.mark.parametrize("kind", ["plain", "NFC", "NFKC", "Strip", "sentencepiece"])
def test_no_text_has_fewer_tokens_than_are_foreseen(kind):
    """And the longest piece alone, repeated, has just as many."""
    tokenizer, rng = tokenizer_of(kind), random.Random(kind)
    for _ in range(200):
        text = "".join(rng.choice(LETTERS) for _ in range(rng.randint(0, 30)))
        for continues in (False, True):
            assert tokenizer.least_tokens(text) <= len(tokenizer.encode(text, continues=continues))
    assert tokenizer.least_tokens("x" * 10_000) >= 10_000 / max(map(len, tokenizer.engine.pieces))
    whole = max((piece for piece in tokenizer.engine.pieces if piece.decode("utf-8", "ignore").encode() == piece), key=len).decode()
    assert tokenizer.least_tokens(whole) == 1


@pytest.mark.parametrize("seed", range(20))
def test_texts_that_fit_together_are_encoded_and_a_refusal_is_right(seed):
    tokenizer, rng = tokenizer_of("plain"), random.Random(seed)
    texts = ["".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 40))) for _ in range(5)]
    ids = [tokenizer.encode(text) for text in texts]
    count = sum(map(len, ids))
    enough = Bounded(tokenizer, tokenizer.least_tokens, count)
    assert [enough.encode(text) for text in texts] == ids
    scarce = Bounded(tokenizer, tokenizer.least_tokens, rng.randint(0, tokenizer.least_tokens("".join(texts)) - 1))
    with pytest.raises(LengthError) as caught:
        for text in texts:
            scarce.encode(text)
    assert caught.value.most < caught.value.least <= count


@pytest.mark.parametrize("seed", range(50))
def test_the_longest_end_of_a_dialogue_that_fits_is_found_by_few_tries(seed):
    rng = random.Random(seed)
    system = [Message(role="system", content="s" * rng.randint(0, 5))] * rng.randint(0, 1)
    turns = [Message(role=rng.choice(["user", "assistant"]), content="x" * rng.randint(0, 9)) for _ in range(rng.randint(0, 60))]
    room, tried = rng.randint(0, 150), list[int]()

    def prompt(messages: list[Message]) -> list[int]:
        size = sum(1 + len(message.content) for message in messages)
        tried.append(size)
        if size > 2 * room:
            raise LengthError(least=2 * room, most=room)
        return [1] * size

    begin = [place for place, turn in enumerate(turns) if turn.role == "user" or not place]
    fitting = next((start for start in begin if sum(1 + len(one.content) for one in (*system, *turns[start:])) <= room), None)
    if fitting is None and begin and sum(1 + len(one.content) for one in (*system, *turns[begin[-1] :])) > 2 * room:
        with pytest.raises(LengthError):
            last_turns([*system, *turns], prompt, room)
    else:
        assert last_turns([*system, *turns], prompt, room)[1] == fitting
    assert len(tried) <= 3 + len(begin).bit_length()
