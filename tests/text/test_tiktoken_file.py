import base64

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from beichen.errors import TokenizerError
from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.pre_tokenization import split_pattern
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from tests.text.trained import ODD_TEXTS, small_tokenizer


def ranks() -> dict[bytes, int]:
    """Bytes and merges of a small trained vocabulary, in the order of its merges."""
    trained = small_tokenizer().engine
    control = set(trained.control_ids.values())
    pieces = [trained.pieces[token] for token in range(trained.vocab_size) if token not in control]
    ordered = [bytes([value]) for value in byte_alphabet().values()] + [piece for piece in pieces if len(piece) > 1]
    return {piece: rank for rank, piece in enumerate(dict.fromkeys(ordered))}


RANKS = ranks()
FILE = "".join(f"{base64.b64encode(piece).decode()} {rank}\n" for piece, rank in RANKS.items()).encode()
CONTROL = {"<|endoftext|>": len(RANKS), "<|im_start|>": len(RANKS) + 1, "<|im_end|>": len(RANKS) + 2}
OURS = Tokenizer(
    {"qwen.tiktoken": FILE, "tokenizer_config.json": b'{"tokenizer_class": "QWenTokenizer"}'}, origin="here", default_template="qwen1"
)
THEIRS = tiktoken.Encoding("small", pat_str=split_pattern("qwen2"), mergeable_ranks=RANKS, special_tokens=CONTROL)


@given(text=st.one_of(st.text(), st.text(alphabet="小明喜欢苹果 the student's12\n e\u0301"), st.sampled_from([*ODD_TEXTS, *CONTROL])))
def test_ids_are_those_of_tiktoken(text):
    import unicodedata

    text = unicodedata.normalize("NFC", text)  # as Qwen's class does first; ours does it inside
    assert OURS.encode(text) == THEIRS.encode(text, disallowed_special=())
    assert OURS.encode(text, allow_special=True) == THEIRS.encode(text, allowed_special="all")


def test_ids_of_text_that_is_not_composed():
    assert OURS.encode("e\u0301") == OURS.encode("é")


@given(ids=st.lists(st.integers(0, len(RANKS) + 2)))
def test_texts_are_those_of_tiktoken(ids):
    assert OURS.decode(ids, skip_special=False) == THEIRS.decode(ids)


def test_roles_and_prompts(tmp_path):
    assert OURS.special_ids["<|extra_204|>"] == OURS.vocab_size - 1 == len(RANKS) + 3 + 204
    assert (OURS.end_id, OURS.start_id, OURS.template) == (CONTROL["<|endoftext|>"], None, "qwen1")
    assert set(OURS.stop_ids) == set(CONTROL.values())
    text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    ids = OURS.render([{"role": "user", "content": "hi"}], add_generation_prompt=True).ids
    assert ids == THEIRS.encode(text, allowed_special="all")
    OURS.save(tmp_path)
    assert (tmp_path / "qwen.tiktoken").read_bytes() == FILE
    assert read_tokenizer(tmp_path).encode("the student") == OURS.encode("the student")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs", ":1: expected a piece in base64"),
        (b"IQ== 0\nIg== 2\n", ":2: rank 2, expected 1"),
        (b"IQ== 0\n?? 1\n", ":2: expected a piece in base64"),
        (b"IQ== 0\n", "lacks 255 of the 256 bytes"),
    ],
)
def test_broken_files_are_named(data, words):
    with pytest.raises(TokenizerError, match=words):
        Tokenizer({"qwen.tiktoken": data}, origin="here")
