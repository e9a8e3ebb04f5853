"""Pieces of a ``tokenizer.model``: the short way of reading gives what reading field by field gives."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.text.sentencepiece_file import Kind, Piece, _fields, _piece, _piece_of_fields
from tests.text.sentencepiece_models import fact, message, number

UNREADABLE = (ValueError, IndexError, struct.error)  # what a file is refused for


def score_field(score: float) -> bytes:
    return number(2 << 3 | 5) + struct.pack("<f", score)


TEXTS = st.one_of(st.text(max_size=8), st.text(min_size=60, max_size=200), st.sampled_from(["", "\x15", "\n\x18\x01", "▁", "\x15" * 9]))
SCORES = st.floats(width=32, allow_nan=False)
FIELDS = st.one_of(
    st.builds(lambda text: message(1, text.encode()), TEXTS),
    st.builds(score_field, SCORES),
    st.builds(fact, st.just(3), st.integers(0, 300)),
    st.builds(fact, st.integers(1, 20), st.integers(0, 9)),
    st.binary(max_size=4),
)


def by_fields(data: bytes) -> Piece:
    return _piece_of_fields(dict(_fields(data)))


@given(text=TEXTS, score=SCORES, kind=st.sampled_from([None, *Kind]))
def test_pieces_as_most_are_written(text: str, score: float, kind: Kind | None) -> None:
    data = message(1, text.encode()) + score_field(score) + (b"" if kind is None else fact(3, kind))
    assert _piece(data) == by_fields(data) == Piece(text, score, kind or Kind.NORMAL)


@given(fields=st.lists(FIELDS, max_size=4), cut=st.integers(0, 12))
def test_pieces_written_in_any_way(fields: list[bytes], cut: int) -> None:
    """Other fields, other orders, fields twice, an end too early: what one way refuses the other refuses."""
    whole = b"".join(fields)
    data = whole[: max(0, len(whole) - cut)]
    try:
        expected = by_fields(data)
    except UNREADABLE:
        with pytest.raises(UNREADABLE):
            _piece(data)
    else:
        assert repr(_piece(data)) == repr(expected)  # a score may be no number
