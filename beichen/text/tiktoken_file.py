"""Qwen 1's ``*.tiktoken`` file as the ``tokenizer.json`` that says the same.

Comes in: lines of a piece in base64 and its rank. Goes out: the object that :class:`~beichen.text.tokenizer_json.TokenizerJson` reads.
What the file leaves to the code that Qwen published stands here: text is composed (NFC) first, cut by one pattern, and the control tokens
follow the last rank. A test holds it to the ``tiktoken`` library.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from beichen.errors import TokenizerError
from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.byte_pairs import merges_of
from beichen.text.pre_tokenization import split_pattern

_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205)))


def tiktoken_as_json(data: bytes, origin: str) -> dict[str, Any]:
    """The vocabulary with its control tokens."""
    letters = {byte: character for character, byte in byte_alphabet().items()}
    pieces = ["".join(letters[byte] for byte in piece) for piece in _ranked(data, origin)]
    known = set(pieces)
    cut = {"type": "Split", "pattern": {"Regex": split_pattern("qwen2")}, "behavior": "Isolated", "invert": False}
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": len(pieces) + place, "content": name, **flags} for place, name in enumerate(_CONTROL)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, bytes_of]},
        "post_processor": None,
        "decoder": bytes_of,
        "model": {
            "type": "BPE",
            "vocab": {piece: rank for rank, piece in enumerate(pieces)},
            "merges": [list(pair) for pair in merges_of(pieces, known)],
            "ignore_merges": True,  # a whole cut that is a piece is taken at once
        },
    }


def _ranked(data: bytes, origin: str) -> list[bytes]:
    pieces: list[bytes] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            piece, rank = line.split()
            pieces.append(base64.b64decode(piece, validate=True))
            in_order = int(rank) == len(pieces) - 1
        except (ValueError, binascii.Error) as error:
            raise TokenizerError(
                f"{origin}:{number}: expected a piece in base64 and its rank, got {line[:40]!r}", remedy="fetch the file again"
            ) from error
        if not in_order:
            raise TokenizerError(f"{origin}:{number}: rank {int(rank)}, expected {len(pieces) - 1}", remedy="fetch the file again")
    missing = set(range(256)) - {piece[0] for piece in pieces if len(piece) == 1}
    if missing:
        raise TokenizerError(f"{origin}: lacks {len(missing)} of the 256 bytes", remedy="fetch the file again")
    return pieces
