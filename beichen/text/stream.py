"""Ids one by one to text as it becomes whole: what a chat window and the HTTP stream show.

Rule kept here: a character appears when its last byte has come, never before, and the pieces joined are exactly
``tokenizer.decode`` of all ids, for any way of splitting them.
"""

from __future__ import annotations

import codecs

from beichen.text.tokenizer import Tokenizer


class IncrementalDecoder:
    """Text of one answer. ``push`` every id, then ``finish`` once."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._drop_space = tokenizer.strips_first_space

    def push(self, token: int) -> str:
        """The text that this id completes; empty while a character is unfinished."""
        if self._skip_special and self._tokenizer.is_hidden(token):
            return ""
        return self._clean(self._decoder.decode(self._tokenizer.token_bytes(token)))

    def finish(self) -> str:
        """What is left: U+FFFD where the ids ended inside a character."""
        return self._clean(self._decoder.decode(b"", final=True))

    def _clean(self, text: str) -> str:
        if self._drop_space and text:
            self._drop_space = False
            return text.removeprefix(" ")
        return text
