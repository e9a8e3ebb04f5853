"""``tokenizer.model`` files for tests: small ones written or trained on the spot, and TeleChat2-7B's, made as its golden says."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from tests.text.trained import ODD_TEXTS, sentences

TAGS = ("<_user>", "<_bot>", "<reserve1>")  # cut out of every text by the library
CONTROLS = ("<_end>", "<_pad>", "<_system>")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def number(value: int) -> bytes:
    """A whole number as protocol buffers write it."""
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + number(value >> 7)


def message(field: int, data: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(data)) + data


def fact(field: int, value: int) -> bytes:
    return number(field << 3) + number(value)


def piece(text: str, score: float, kind: int) -> bytes:
    return message(1, message(1, text.encode()) + number(2 << 3 | 5) + struct.pack("<f", score) + fact(3, kind))


def model_file(
    words: Sequence[str], *, controls: Sequence[str] = CONTROLS, tags: Sequence[str] = TAGS, trainer: bytes = fact(3, 2) + fact(35, 1),
    normalizer: bytes = fact(3, 1) + fact(4, 0) + fact(5, 1), bytes_kind: int = BYTE, more: bytes = b"",
) -> bytes:  # fmt: skip
    """A file with the unknown piece, controls, tags, bytes and words, in this order; each word ranks before the next."""
    parts = [piece("<_unk>", 0, UNKNOWN), *(piece(name, 0, CONTROL) for name in controls), *(piece(tag, 0, USER_DEFINED) for tag in tags)]
    parts += [piece(f"<0x{value:02X}>", 0, bytes_kind) for value in range(256)]
    parts += [piece(word, -place, NORMAL) for place, word in enumerate(words)]
    return b"".join(parts) + more + message(2, trainer) + message(3, normalizer)


@lru_cache(maxsize=1)
def trained_model() -> bytes:
    """A file that the ``sentencepiece`` library trained, with TeleChat's settings."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences(800), *(text for text in ODD_TEXTS if text.strip() and "\x00" not in text)]), model_writer=made,
        model_type="bpe", vocab_size=560, byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity", character_coverage=0.99,
        unk_piece="<_unk>", bos_piece="<_start>", eos_piece="<_end>", pad_piece="<_pad>", pad_id=3,
        control_symbols=["<_system>"], minloglevel=3,
        user_defined_symbols=[*TAGS, *"0123456789", "_", "__", "\n"],
    )  # fmt: skip
    return made.getvalue()


def settings(**more: object) -> bytes:
    """``tokenizer_config.json`` as TeleChat wrote it."""
    roles = {"eos_token": "<_end>", "pad_token": "<_pad>", "unk_token": "<_end>"}
    return json.dumps({"tokenizer_class": "TelechatTokenizer", "add_bos_token": False, **roles, **more}).encode()


def telechat2_7b(tokenizers: Path) -> dict[str, bytes]:
    """The files of TeleChat2-7B from those of 115B: four pieces have other names, and the settings mark ten as special."""
    told = json.loads((tokenizers / "telechat2-7b/derived_from.json").read_text())
    names = {int(token): name for token, name in told["rename_pieces"].items()}
    data = (tokenizers / "telechat2-115b/tokenizer.model").read_bytes()
    made = b"".join(_renamed(data, names))
    assert len(made) == told["bytes"] and hashlib.sha256(made).hexdigest().startswith(told["sha256"])
    added = {token: {"content": name, **told["added_token_flags"]} for token, name in told["added_special_tokens"].items()}
    return {"tokenizer.model": made, "tokenizer_config.json": settings(bos_token="<_start>", added_tokens_decoder=added)}


def _renamed(data: bytes, names: dict[int, str]) -> Iterator[bytes]:
    place = token = 0
    while place < len(data):
        field, (size, body) = data[place] >> 3, _length(data, place + 1)
        content = data[body : body + size]
        if field == 1 and token in names:
            length, start = _length(content, 1)
            content = message(1, names[token].encode()) + content[start + length :]
        token += field == 1
        yield message(field, content)
        place = body + size


def _length(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 0x80:
            return value, place
