"""Plain text to the ids of a SentencePiece file: in C++, or in ``tokenizers`` where nothing can be compiled, with the same ids.

Comes in: the file and the pieces that are to be cut out of a text before all else. Goes out: an encoder. Both ways join neighbours while
the result is a piece, the best piece first, and spell by bytes what is no piece; the C++ only takes files whose pieces are all
different, each with a score of its own, with one for a space.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Protocol

import tokenizers
from tokenizers import models, pre_tokenizers

from beichen.text import compiled
from beichen.text.byte_pairs import merges_of
from beichen.text.compiled_encoder import CompiledEncoder, joined_texts
from beichen.text.sentencepiece_file import Kind, SentencePieceFile

SPACE_MARK = "▁"  # U+2581
_BYTES = [f"<0x{value:02X}>" for value in range(256)]
_WORD = f"{SPACE_MARK}*[^{SPACE_MARK}]+|{SPACE_MARK}+"


class PieceEncoder(Protocol):
    """Ids of texts."""

    def encode_batch(self, texts: Sequence[str], *, prefixed: bool) -> list[list[int]]:
        """``prefixed``: with a space before every text that is not empty."""


class PieceEncoders:
    """Makes encoders of one file, which differ in the pieces that they cut out."""

    def __init__(self, file: SentencePieceFile) -> None:
        self._pieces = file.pieces
        self._normal = sorted((token for token, piece in enumerate(file.pieces) if piece.kind is Kind.NORMAL), key=self._worse)

    def _worse(self, token: int) -> float:
        return -self._pieces[token].score

    def cutting(self, whole: Collection[int]) -> PieceEncoder:
        """``whole``: ids of the pieces to cut out; of several that begin at one place the longest is taken."""
        return self._compiled(whole) if self._is_plain and compiled.library() is not None else _Library(self._library(whole))

    @cached_property
    def _is_plain(self) -> bool:
        texts = {piece.text for piece in self._pieces}
        scores = {self._pieces[token].score for token in self._normal}
        different = len(texts) == len(self._pieces) and len(scores) == len(self._normal)
        return different and "" not in texts and SPACE_MARK in texts and self._bytes_are_named

    @property
    def _bytes_are_named(self) -> bool:
        return {piece.text for piece in self._pieces if piece.kind is Kind.BYTE} == set(_BYTES)

    def _compiled(self, whole: Collection[int]) -> CompiledEncoder:
        pieces = self._pieces
        letters = array("I")
        for token, piece in enumerate(pieces):
            if len(piece.text) == 1:
                letters.extend((ord(piece.text), token))
        names = {piece.text: token for token, piece in enumerate(pieces) if piece.kind is Kind.BYTE}
        byte_ids = array("I", [names[name] for name in _BYTES])
        ranked, ranked_ends = joined_texts(pieces[token].text.encode() for token in self._normal)
        cut, cut_ends = joined_texts(pieces[token].text.encode() for token in whole)
        ranked_ids, cut_ids = array("I", self._normal), array("I", whole)
        handle = compiled.function("text_pieces_new", "plpppplpppl>p")(
            letters.buffer_info()[0], len(letters) // 2, byte_ids.buffer_info()[0],
            ranked, ranked_ends.buffer_info()[0], ranked_ids.buffer_info()[0], len(ranked_ids),
            cut, cut_ends.buffer_info()[0], cut_ids.buffer_info()[0], len(cut_ids),
        )  # fmt: skip
        return CompiledEncoder(handle, encode="text_pieces_encode", free="text_pieces_free")

    def _library(self, whole: Collection[int]) -> tokenizers.Tokenizer:
        library = tokenizers.Tokenizer(self._model)
        if self._words_end_at_spaces:
            library.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(_WORD), behavior="isolated")
        library.add_tokens([tokenizers.AddedToken(self._pieces[token].text, normalized=False) for token in whole])
        return library

    @cached_property
    def _model(self) -> models.BPE:
        ranked = [self._pieces[token].text for token in self._normal]
        vocabulary = {piece.text: token for token, piece in enumerate(self._pieces)}
        return models.BPE(vocab=vocabulary, merges=merges_of(ranked, set(ranked)), byte_fallback=True)

    @cached_property
    def _words_end_at_spaces(self) -> bool:
        """Whether no piece goes on after a word's last letter with a space: then words can be read apart."""
        inside = re.compile(f"[^{SPACE_MARK}]{SPACE_MARK}")
        return not any(inside.search(self._pieces[token].text) for token in self._normal)


class _Library:
    """The slow twin of the C++."""

    def __init__(self, library: tokenizers.Tokenizer) -> None:
        self._library = library

    def encode_batch(self, texts: Sequence[str], *, prefixed: bool) -> list[list[int]]:
        mark = SPACE_MARK if prefixed else ""
        written = [mark + text.replace(" ", SPACE_MARK) if text else "" for text in texts]
        return [encoding.ids for encoding in self._library.encode_batch_fast(written, add_special_tokens=False)]
