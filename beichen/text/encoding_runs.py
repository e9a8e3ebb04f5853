"""Text and control tokens to ids: where a run of text begins, and what belongs to one run.

Comes in: blocks of parts, each a text or a control token. Goes out: ids per block. Rule kept here: text is encoded as plain text, always;
a control token ends a run of text, and only the first text of a run gets the space that some vocabularies put before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from beichen.text.chat_template import Special
from beichen.text.messages import Role


class Encoder(Protocol):
    """What rendering asks of a tokenizer."""

    @property
    def special_ids(self) -> Mapping[str, int]: ...

    @property
    def inline_ids(self) -> Collection[int]:
        """Control tokens that end no run of text, since the published code reads them inside one."""

    def encode(self, text: str, *, allow_special: bool = False, continues: bool = False) -> list[int]: ...

    def token_bytes(self, token: int) -> bytes: ...


@dataclass(frozen=True)
class Permissive:
    """An encoder that lets the names of control tokens in texts act."""

    encoder: Encoder

    @property
    def special_ids(self) -> Mapping[str, int]:
        return self.encoder.special_ids

    @property
    def inline_ids(self) -> Collection[int]:
        return self.encoder.inline_ids

    def encode(self, text: str, *, allow_special: bool = True, continues: bool = False) -> list[int]:
        return self.encoder.encode(text, allow_special=allow_special, continues=continues)

    def token_bytes(self, token: int) -> bytes:
        return self.encoder.token_bytes(token)


@dataclass(frozen=True)
class Block:
    """A run of a rendered dialogue before encoding: text and control tokens with one meaning."""

    parts: tuple[str | Special, ...]
    trained: bool
    role: Role


def encode_blocks(blocks: Sequence[Block], encoder: Encoder, *, joined: bool) -> list[list[int]]:
    """Ids of each block. ``joined``: neighbouring texts of several blocks are encoded in one go and cut afterwards."""
    writer = _Writer(encoder, [[] for _ in blocks], joined)
    for number, block in enumerate(blocks):
        for part in block.parts:
            if isinstance(part, Special) and part.name in encoder.special_ids:
                writer.control(number, encoder.special_ids[part.name])
            else:
                writer.text(number, part.name if isinstance(part, Special) else part)
        if not joined:
            writer.flush()
    writer.flush()
    return writer.ids


class _Writer:
    """Collects texts until something ends them."""

    def __init__(self, encoder: Encoder, ids: list[list[int]], joined: bool) -> None:
        self.encoder, self.ids, self.joined = encoder, ids, joined
        self._texts: list[tuple[int, str]] = []  # (block, text) not yet encoded
        self._inside = False  # whether the run of text has begun, so that no space comes before what follows

    def text(self, block: int, text: str) -> None:
        if text:
            self._texts.append((block, text))

    def control(self, block: int, token: int) -> None:
        inline = self.joined and token in self.encoder.inline_ids
        if inline and not self._inside and not self._texts:
            self.ids[block] += self._opening()
        self.flush()
        self.ids[block].append(token)
        self._inside = inline

    def flush(self) -> None:
        """Encode what has been collected; a token that reaches into the next block belongs to the one where it begins."""
        if not self._texts:
            return
        ids = self.encoder.encode("".join(text for _, text in self._texts), continues=self._inside)
        sizes = [len(self.encoder.token_bytes(token)) for token in ids]
        place = sum(len(text.encode()) for _, text in self._texts) - sum(sizes)  # negative by the space that nobody wrote
        ends, end = [], 0
        for block, text in self._texts:
            end += len(text.encode())
            ends.append((block, end))
        for token, size in zip(ids, sizes, strict=True):
            while len(ends) > 1 and max(place, 0) >= ends[0][1]:
                ends.pop(0)
            self.ids[ends[0][0]].append(token)
            place += size
        self._texts, self._inside = [], True

    def _opening(self) -> list[int]:
        """What a run that begins with a control token begins with: the space before it, in vocabularies that put one."""
        probe = self.encoder.encode("\n")
        return probe[: len(probe) - len(self.encoder.encode("\n", continues=True))]
