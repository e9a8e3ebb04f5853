"""Names of tokens in a text completion's logprobs: as different as the tokens, with their places in the text."""

import math
import random

from beichen.inference.api import TokenLogprob
from beichen.serve.completion_logprobs import LogprobReader, joined, token_name
from tests.inference.small_models import small_tokenizer

TOKENIZER = small_tokenizer()
BYTES = {TOKENIZER.token_bytes(token): token for token in range(TOKENIZER.vocab_size)}
PARTS = [BYTES[bytes([byte])] for byte in (0xE4, 0xBD, 0xA0)]  # 你


def test_parts_of_a_character_go_by_their_bytes_and_none_swallows_another():
    top = tuple((token, -float(place)) for place, token in enumerate([*PARTS, BYTES[b"a"]], 1))
    told = LogprobReader(TOKENIZER).read(PARTS[:1], (TokenLogprob(id=PARTS[0], logprob=-1.0, top=top),))
    assert told.tokens == [r"bytes:\xe4"] and told.token_logprobs == [-1]
    assert told.top_logprobs == [{r"bytes:\xe4": -1, r"bytes:\xbd": -2, r"bytes:\xa0": -3, "a": -4}]
    names = [token_name(TOKENIZER, token) for token in range(TOKENIZER.vocab_size)]
    assert len(set(names)) == len(BYTES) and not any("�" in name for name in names)


def test_of_two_tokens_with_the_same_bytes_the_likelier_is_told():
    own = BYTES[b"a"]
    for values in ((-1.0, -3.0), (-3.0, -1.0), (-math.inf, -1.0)):
        top = tuple((own, value) for value in values)
        told = LogprobReader(TOKENIZER).read([own], (TokenLogprob(id=own, logprob=-1.0, top=top),))
        assert told.top_logprobs == [{"a": -1}]


def test_places_are_those_of_the_text_however_an_answer_is_cut():
    draw = random.Random(0)
    for _ in range(50):
        ids = [draw.choice([*PARTS, *range(TOKENIZER.vocab_size)]) for _ in range(12)]
        whole = LogprobReader(TOKENIZER, offset=3).read(ids, (None,) * len(ids))
        cut, reader = draw.randrange(12), LogprobReader(TOKENIZER, offset=3)
        assert joined(reader.read(ids[:cut], (None,) * cut), reader.read(ids[cut:], (None,) * (12 - cut))) == whole
        assert whole.text_offset == sorted(whole.text_offset) and whole.text_offset[-1] - 3 <= len(TOKENIZER.decode(ids))
    assert LogprobReader(TOKENIZER).read([*PARTS, *TOKENIZER.encode("a"), *PARTS], (None,) * 7).text_offset == [0, 0, 0, 1, 2, 2, 2]
