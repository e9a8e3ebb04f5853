"""Ids to text, whole or one by one: one machine, so that the pieces of a stream joined are the full decode.

Rules kept here: a character appears when its last byte has come, never before; the space that a vocabulary puts before every text is
taken away again at the beginning and after every control token that is shown.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection

from beichen.text.engine import Engine


def _mark_each_byte(error: UnicodeError) -> tuple[str, int]:
    """One mark for each byte that is no text, as SentencePiece writes them."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


codecs.register_error("beichen.each_byte", _mark_each_byte)


class TextAssembler:
    """Text of a run of ids. ``push`` every id, then ``finish`` once."""

    def __init__(self, engine: Engine, *, skip_special: bool, shown: Collection[str] = ()) -> None:
        """``skip_special``: the tokens that the files mark special are left out, but for those whose names are ``shown``."""
        self._engine, self._pieces = engine, engine.pieces
        self._hidden = engine.hidden_ids if skip_special else frozenset[int]()
        if shown:
            self._hidden -= {engine.control_ids[name] for name in shown if name in engine.control_ids}
        self._shown = frozenset(engine.control_ids.values()) if engine.leading_space_mark else frozenset[int]()
        errors = "beichen.each_byte" if engine.leading_space_mark else "replace"
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors=errors)
        self._drop_space = engine.leading_space_mark

    def push(self, token: int) -> str:
        """The text that this id completes; empty while a character is unfinished."""
        if token in self._hidden:
            return ""
        if token in self._shown:
            text = self.finish() + self._pieces[token].decode()
            self._drop_space = True
            return text
        return self._clean(self._decoder.decode(self._pieces[token]))

    def finish(self) -> str:
        """What is left: marks where the ids ended inside a character."""
        text = self._clean(self._decoder.decode(b"", final=True))
        self._decoder.reset()
        return text

    def _clean(self, text: str) -> str:
        if self._drop_space and text:
            self._drop_space = False
            return text.removeprefix(" ")
        return text
