"""``tokenizer.model`` as an :class:`~beichen.text.engine.Engine`, with the very ids of SentencePiece.

Encoded by ``sentencepiece_encoding`` rather than by the ``sentencepiece`` library, because plain text and control tokens have to be kept
apart: pieces such as ``<_user>`` are cut out of any text by that library, and nothing there can switch it off. Added tokens stand
beside the file, in ``tokenizer_config.json``; an added name that is a piece has that piece's id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

from beichen.errors import TokenizerError
from beichen.text.engine import check_plain, is_tag
from beichen.text.sentencepiece_encoding import SPACE_MARK, PieceEncoder, PieceEncoders
from beichen.text.sentencepiece_file import Kind, read_sentencepiece


class SentencePieceEngine:
    """The engine for ``tokenizer.model`` files."""

    leading_space_mark: bool

    def __init__(self, data: bytes, *, origin: str, added: Mapping[str, int] | None = None, roles: Sequence[str] = ()) -> None:
        """``added``: names and ids beside the file; ``roles``: names of start, end and the like. The published code reads both as control
        tokens, and leaves out those with a role when it decodes."""
        self._file = read_sentencepiece(data, origin)
        self._pieces = self._file.pieces
        self._ids = {piece.text: token for token, piece in enumerate(self._pieces)}
        extra = self._checked(added or {}, origin)
        self._ids.update(extra)
        self._names = {token: name for name, token in self._ids.items()}
        self.vocab_size = max(self._names) + 1
        kinds = {token: piece.kind for token, piece in enumerate(self._pieces)}
        tags = {token for token, kind in kinds.items() if kind is Kind.USER_DEFINED and is_tag(self._pieces[token].text)}
        marked = {self._ids[name] for name in (*roles, *(added or {})) if name in self._ids}
        steering = {token for token, kind in kinds.items() if kind in (Kind.CONTROL, Kind.UNKNOWN)} | tags | marked | set(extra.values())
        self.control_ids: dict[str, int] = {self._names[token]: token for token in sorted(steering)}
        self.recognised_ids = frozenset(marked | set(extra.values()))
        self.inline_ids = frozenset(steering) - self.recognised_ids
        self.silent_ids = frozenset(token for token, kind in kinds.items() if kind is Kind.CONTROL)  # the library writes nothing for them
        self.role_ids = frozenset(self._ids[name] for name in roles if name in self._ids)
        self.hidden_ids = self.role_ids | (self.silent_ids - set((added or {}).values()))
        self.leading_space_mark = self._file.adds_prefix
        self._encoders = PieceEncoders(self._file)
        self._whole = [token for token, kind in kinds.items() if kind is Kind.USER_DEFINED]
        self._plain = self._encoders.cutting([token for token in self._whole if token not in tags | marked])
        check_plain(self, origin)

    def _checked(self, added: Mapping[str, int], origin: str) -> dict[str, int]:
        """Names that the file does not have; one that it has under another id is refused."""
        for name, token in added.items():
            known = self._ids.get(name)
            taken = self._pieces[token].text if known is None and token < len(self._pieces) else None
            if (known is not None and known != token) or taken is not None:
                holder = f"that name has the id {known}" if known is not None else f"that id is the piece '{taken}'"
                raise TokenizerError(
                    f"{origin}: the settings beside it give '{name}' the id {token}, but in this file {holder}",
                    remedy="the two files belong to different tokenizers",
                )
        return {name: token for name, token in added.items() if name not in self._ids}

    @cached_property
    def _published(self) -> PieceEncoder:
        return self._encoders.cutting(self._whole)

    @cached_property
    def _recognised(self) -> re.Pattern[str]:
        names = sorted((self._names[token] for token in self.recognised_ids), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def encode(self, text: str, *, allow_special: bool = False, continues: bool = False) -> list[int]:
        """As the published code when ``allow_special``: the text is cut at recognised names, and each part is a text of its own."""
        if not allow_special:
            return self._encode(self._plain, text, continues)
        ids: list[int] = []
        place = 0
        for match in self._recognised.finditer(text):
            ids += self._encode(self._published, text[place : match.start()], continues and not place)
            ids.append(self._ids[match.group()])
            place = match.end()
        return ids + self._encode(self._published, text[place:], continues and not place)

    def _encode(self, encoder: PieceEncoder, text: str, continues: bool) -> list[int]:
        return encoder.encode_batch([text], prefixed=self._file.adds_prefix and not continues)[0] if text else []

    def least_tokens(self, text: str) -> int:
        return -(-len(text.encode()) // self._longest)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._plain.encode_batch(texts, prefixed=self._file.adds_prefix)

    @cached_property
    def pieces(self) -> list[bytes]:
        """Spaces as spaces; the unknown piece and control pieces are their names."""
        table = [b""] * self.vocab_size
        for name, token in self._ids.items():
            kind = self._pieces[token].kind if token < len(self._pieces) else Kind.CONTROL
            if kind is Kind.BYTE:
                table[token] = bytes([int(name[3:5], 16)])
            else:
                table[token] = (name.replace(SPACE_MARK, " ") if kind is Kind.NORMAL else name).encode()
        return table

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.pieces))

    @property
    def unknown_surface(self) -> str:
        """What the published code writes for the unknown piece."""
        return self._file.unknown_surface

    @property
    def unknown_id(self) -> int | None:
        """The unknown piece; bytes stand in for it, so that no text ever gives it."""
        return next((token for token, piece in enumerate(self._pieces) if piece.kind is Kind.UNKNOWN), None)

    def token_of(self, piece: str) -> int | None:
        return self._ids.get(piece)

    def piece_name(self, token: int) -> str:
        return self._names.get(token, "")
