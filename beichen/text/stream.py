"""Ids one by one to text as it becomes whole: what a chat window and the HTTP stream show.

Rule kept here: the pieces joined are exactly ``tokenizer.decode`` of all ids, and no piece shows a broken character.
"""

from __future__ import annotations

from collections.abc import Collection

from beichen.text.decoding import TextAssembler
from beichen.text.tokenizer import Tokenizer


class IncrementalDecoder:
    """Text of one answer. ``push`` every id, then ``finish`` once."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, shown: Collection[str] = ()) -> None:
        """``shown``: control tokens that are shown all the same, by name: the tags of thoughts and tool calls."""
        self._tokenizer = tokenizer
        self._assembler = TextAssembler(tokenizer.engine, skip_special=skip_special, shown=shown)

    def push(self, token: int) -> str:
        """The text that this id completes; empty while a character is unfinished."""
        self._tokenizer.token_bytes(token)  # an id outside the vocabulary is named
        return self._assembler.push(token)

    def finish(self) -> str:
        """What is left: marks where the ids ended inside a character."""
        return self._assembler.finish()
