import random

from beichen.text.compression import measure_compression
from tests.text.trained import ODD_TEXTS, sentences, small_tokenizer


def whole_slowly(text: str, pieces: list[bytes]) -> int:
    """Characters that lie in one piece, counted one by one."""
    owner = [number for number, piece in enumerate(pieces) for _ in piece]
    place = whole = 0
    for character in text:
        size = len(character.encode())
        whole += len(set(owner[place : place + size])) == 1
        place += size
    return whole


def test_sums_are_those_of_a_slow_count():
    tokenizer = small_tokenizer()
    texts = [*ODD_TEXTS, *sentences(300, seed=9)]
    random.Random(0).shuffle(texts)
    found = measure_compression(tokenizer, texts)
    ids = [tokenizer.encode(text) for text in texts]
    assert found.tokens == sum(map(len, ids)) and found.texts == len(texts)
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert found.checked == found.characters == sum(map(len, texts))
    assert found.used == len({token for one in ids for token in one})
    slow = sum(whole_slowly(text, [tokenizer.token_bytes(token) for token in one]) for text, one in zip(texts, ids, strict=True))
    assert found.whole == slow < found.characters


def test_no_text_has_no_ratio():
    empty = measure_compression(small_tokenizer(), [])
    assert empty.bytes_per_token == 0.0 and empty.coverage is None
