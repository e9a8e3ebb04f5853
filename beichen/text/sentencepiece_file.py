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

from beichen.errors import TokenizerError

_BPE = 2


class Kind(IntEnum):
    """What a piece is, as the file numbers it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4  # cut out of the text before anything else
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
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
        top = list(_fields(data))
        pieces = tuple(_piece(dict(_fields(value))) for number, value in top if number == 1)
        trainer, normalizer = (dict(_fields(next((value for number, value in top if number == part), b""))) for part in (2, 3))
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
    return SentencePieceFile(pieces=pieces, adds_prefix=bool(normalizer.get(3, 1)), unknown_surface=unknown)


def _piece(fields: dict[int, bytes | int]) -> Piece:
    score, kind = fields.get(2, bytes(4)), fields.get(3, 1)
    if not isinstance(score, bytes) or not isinstance(kind, int):
        raise ValueError("a piece whose score or kind is no number")
    return Piece(_text(fields.get(1, b"")), struct.unpack("<f", score)[0], Kind(kind))


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
        key, place = _number(data, place)
        wire, size = key & 7, 0
        if wire == 0:
            value, place = _number(data, place)
            yield key >> 3, value
            continue
        if wire == 2:
            size, place = _number(data, place)
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
