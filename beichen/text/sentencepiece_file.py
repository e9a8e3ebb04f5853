"""``tokenizer.model``: the pieces of a SentencePiece file and how it writes spaces.

Comes in: the bytes of the file (a protocol buffer). Goes out: :class:`SentencePieceFile`. Only what decides about ids is read: pieces with
score and kind, the model type and the normaliser. What we could not follow exactly (another algorithm, a normaliser
that changes characters) is refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from beichen.errors import TokenizerError

_BPE = 2
_SCORE = struct.Struct("<f")


class Kind(IntEnum):
    """What a piece is, as the file numbers it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4  # cut out of the text before anything else
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One entry; its id is its place."""

    text: str
    score: float
    kind: Kind


@dataclass(frozen=True)
class SentencePieceFile:
    """What a file says."""

    pieces: tuple[Piece, ...]
    adds_prefix: bool  # a space before every text
    unknown_surface: str  # what the unknown piece decodes to


def read_sentencepiece(data: bytes, origin: str) -> SentencePieceFile:
    """The file, or an error that says why it cannot be used."""
    try:
        pieces: list[Piece] = []
        parts: dict[int, bytes | int] = {}
        for number, value in _fields(data):
            if number == 1:
                pieces.append(_piece(value))
            else:
                parts.setdefault(number, value)
        trainer, normalizer = (dict(_fields(parts.get(part, b""))) for part in (2, 3))
        unknown = _text(trainer.get(44, " ⁇ ".encode()))
    except (ValueError, IndexError, struct.error, TypeError, AttributeError) as error:
        raise TokenizerError(
            f"{origin}: not a SentencePiece file ({error})", remedy="fetch the file again; a large-file pointer is not the file"
        ) from error
    if not pieces:
        raise TokenizerError(f"{origin}: holds no pieces", remedy="fetch the file again; a large-file pointer is not the file")
    for holds, fault in (
        (trainer.get(3, 1) == _BPE, "its algorithm is not BPE"),
        (not normalizer.get(2), "its normaliser changes characters"),
        (not normalizer.get(4, 1), "its normaliser removes spaces"),
        (bool(normalizer.get(5, 1)), "it does not write spaces as ▁"),
        (not trainer.get(24, 0), "it writes spaces behind words"),
        (all(piece.kind is not Kind.UNUSED for piece in pieces), "it holds unused pieces"),
        (sum(piece.kind is Kind.BYTE for piece in pieces) == 256, "it lacks the 256 byte pieces"),
        (_letters(pieces) <= {piece.text for piece in pieces}, "it has pieces of characters that are no pieces themselves"),
    ):
        if not holds:
            raise TokenizerError(
                f"{origin}: {fault}, which is not supported", remedy="supported: BPE with byte fallback that keeps every character"
            )
    return SentencePieceFile(pieces=tuple(pieces), adds_prefix=bool(normalizer.get(3, 1)), unknown_surface=unknown)


_USUAL_ENDS = {b"": Kind.NORMAL, **{bytes([3 << 3, kind]): kind for kind in Kind}}  # behind text and score


def _piece(data: bytes | int) -> Piece:
    """Most are a short text, a score and a kind, in this order; any others are read field by field, which takes four times as long."""
    if isinstance(data, bytes) and len(data) > 6 and data[0] == 1 << 3 | 2 and data[1] < 0x80:
        end = 2 + data[1]
        kind = _USUAL_ENDS.get(data[end + 5 :])
        if kind is not None and data[end : end + 1] == b"\x15":
            return Piece(data[2:end].decode(), _SCORE.unpack_from(data, end + 1)[0], kind)
    return _piece_of_fields(dict(_fields(data)))


def _piece_of_fields(fields: dict[int, bytes | int]) -> Piece:
    score, kind = fields.get(2, bytes(4)), fields.get(3, 1)
    if not isinstance(score, bytes) or not isinstance(kind, int):
        raise ValueError("a piece whose score or kind is no number")
    return Piece(_text(fields.get(1, b"")), _SCORE.unpack(score)[0], Kind(kind))


def _letters(pieces: Iterable[Piece]) -> set[str]:
    return set().union(*(piece.text for piece in pieces if piece.kind is Kind.NORMAL))


def _text(value: bytes | int) -> str:
    if not isinstance(value, bytes):
        raise ValueError("a number in place of a text")
    return value.decode()


def _fields(data: bytes | int) -> Iterator[tuple[int, bytes | int]]:
    """(field number, value) of one message: whole numbers as they are, all else as bytes."""
    if not isinstance(data, bytes):
        raise ValueError("a number in place of a message")
    place = 0
    while place < len(data):
        key, place = (data[place], place + 1) if data[place] < 0x80 else _number(data, place)
        wire, size = key & 7, 0
        if wire == 0:
            value, place = _number(data, place)
            yield key >> 3, value
            continue
        if wire == 2:
            size, place = (data[place], place + 1) if data[place] < 0x80 else _number(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"field kind {wire} at byte {place}")
        if place + size > len(data):
            raise ValueError(f"it ends inside a field, at byte {len(data)}")
        yield key >> 3, data[place : place + size]
        place += size


def _number(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError(f"a number without end at byte {place}")
