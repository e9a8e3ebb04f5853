"""What a vocabulary file is to :class:`~beichen.text.tokenizer.Tokenizer`, whatever its format.

An engine knows pieces and nothing about chat. The rule that every engine keeps: ``encode`` of plain text never gives a control
token; only ``allow_special=True`` reads their names as the published code does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from beichen.errors import TokenizerError


class Engine(Protocol):
    """Plain text to ids, ids to bytes."""

    @property
    def vocab_size(self) -> int:
        """The largest id and one."""

    @property
    def control_ids(self) -> Mapping[str, int]:
        """The tokens that steer a model, by name."""

    @property
    def hidden_ids(self) -> frozenset[int]:
        """Those of them that ``decode`` leaves out unless asked."""

    @property
    def inline_ids(self) -> frozenset[int]:
        """Those that the published code reads inside a run of text, not as its end."""

    @property
    def leading_space_mark(self) -> bool:
        """Whether every separately encoded text begins with a space that nobody wrote."""

    @property
    def pieces(self) -> Sequence[bytes]:
        """The bytes that each id stands for; empty for ids that no piece has."""

    def encode(self, text: str, *, allow_special: bool = False, continues: bool = False) -> list[int]:
        """Ids of a text. ``continues``: the text goes on after other text, so that no space is put before it."""

    def least_tokens(self, text: str) -> int:
        """How many ids a text surely has at least: as if all were the longest piece. 0 where nothing is certain."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each, on all cores."""

    def token_of(self, piece: str) -> int | None:
        """The id of a piece as the file spells it."""

    def piece_name(self, token: int) -> str:
        """The piece as the file spells it."""


def is_tag(text: str) -> bool:
    """Whether a piece is spelled as a control token: ``<tool_call>``, ``[SEP]``."""
    return len(text) > 2 and (text[0], text[-1]) in (("<", ">"), ("[", "]")) and not any(character.isspace() for character in text)


def check_plain(engine: Engine, origin: str) -> None:
    """No control token's name may encode as that token; an engine is checked when it is made."""
    for name, token in engine.control_ids.items():
        if token in engine.encode(name):
            raise TokenizerError(
                f"{origin}: the text '{name}' is encoded as the control token {token} even with control tokens switched off; "
                "typed text could steer the model",
                remedy="the vocabulary merges ordinary text into a control token; use another tokenizer",
            )
