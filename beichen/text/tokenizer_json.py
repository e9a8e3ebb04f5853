"""``tokenizer.json`` as an engine of pieces: plain text to ids, ids to bytes; nothing about chat.

Comes in: the bytes of a ``tokenizer.json`` (byte-level BPE, or BPE with byte fallback and ``▁`` for spaces).
Rule kept here: **plain text can never become a control token**. Two encoders are built from the file: the one
for plain text knows no control token at all (they are taken out of its added tokens, vocabulary and merges), the
other one is the published one, used only where the caller says ``allow_special=True``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import tokenizers

from beichen.errors import TokenizerError
from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.byte_pair_encoding import fast_encoder, is_plain
from beichen.text.compiled_encoder import CompiledEncoder
from beichen.text.engine import check_plain, is_tag

SPACE_MARK = "▁"  # U+2581: how SentencePiece-like vocabularies write a space


_BYTE_OF = byte_alphabet()


def is_control(token: Mapping[str, Any]) -> bool:
    """Whether an added token steers the model: marked special, or spelled as a tag, whatever its mark says.

    Added tokens that are ordinary text (a newline, a Chinese word added later) are not control tokens.
    """
    return bool(token.get("special")) or is_tag(str(token["content"]))


class TokenizerJson:
    """The engine for ``tokenizer.json`` files."""

    leading_space_mark: bool
    inline_ids: frozenset[int] = frozenset()

    def __init__(self, data: bytes | Mapping[str, Any], *, origin: str, rewrite: Callable[[str], str] | None = None) -> None:
        """``data``: the file, or what it would say. ``rewrite``: what is done to every text first, beyond what the file can say."""
        self.origin, self._rewrite = origin, rewrite
        self._state = _parse(data, origin) if isinstance(data, bytes) else dict(data)
        model = self._state["model"]
        self._vocabulary: dict[str, int] = dict(model["vocab"])
        added = self._state.get("added_tokens") or []
        self._vocabulary.update({str(token["content"]): int(token["id"]) for token in added})
        self.control_ids: dict[str, int] = {str(token["content"]): int(token["id"]) for token in added if is_control(token)}
        self.hidden_ids: frozenset[int] = frozenset(int(token["id"]) for token in added if token.get("special"))
        self._literal_ids = frozenset(int(token["id"]) for token in added)
        self.vocab_size: int = max(self._vocabulary.values()) + 1
        self._byte_level = _mentions(self._state.get("decoder"), "ByteLevel") or _mentions(self._state.get("pre_tokenizer"), "ByteLevel")
        self.leading_space_mark = not self._byte_level and _mentions(self._state.get("decoder"), "Strip")
        plain = _without_control(self._state, self.control_ids)
        self._plain = _build(plain, origin)
        self._is_plain, self._fast = self._byte_level and is_plain(plain), self._fast_form(plain)
        check_plain(self, origin)

    def _fast_form(self, plain: Mapping[str, Any]) -> CompiledEncoder | None:
        """The same in C++, which gives the same ids, where there is a form for this file."""
        if not self._byte_level:
            return None
        normalizer = self._plain.normalizer
        return fast_encoder(plain, None if normalizer is None else normalizer.normalize_str)

    @cached_property
    def _published(self) -> tokenizers.Tokenizer:
        return _build({**self._state, "post_processor": None}, self.origin)

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        return _build(_without_first_space(_without_control(self._state, self.control_ids)), self.origin)

    def encode(self, text: str, *, allow_special: bool = False, continues: bool = False) -> list[int]:
        if self._rewrite is not None:
            text = self._rewrite(text)
        if self._fast is not None and not allow_special:
            return self._fast.encode_batch([text])[0]
        encoder = self._published if allow_special else self._continuing if continues and self.leading_space_mark else self._plain
        return encoder.encode(text, add_special_tokens=False).ids

    def least_tokens(self, text: str) -> int:
        if not self._is_plain:  # a form that may read any stretch of text as one id, or as none
            return 0
        if self._rewrite is not None:
            text = self._rewrite(text)
        normalizer = self._plain.normalizer
        return -(-len((text if normalizer is None else normalizer.normalize_str(text)).encode()) // self._longest)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        if self._rewrite is not None:
            texts = [self._rewrite(text) for text in texts]
        if self._fast is not None:
            return self._fast.encode_batch(texts)
        return [encoding.ids for encoding in self._plain.encode_batch_fast(list(texts), add_special_tokens=False)]

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes that each id stands for; ids that no piece has are empty."""
        table = [b""] * self.vocab_size
        for piece, token in self._vocabulary.items():
            table[token] = self._piece_bytes(piece, token)
        return table

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.pieces))

    def token_of(self, piece: str) -> int | None:
        """The id of a piece as the file spells it."""
        return self._vocabulary.get(piece)

    def piece_name(self, token: int) -> str:
        """The piece as the file spells it (``Ġhello``)."""
        return self._names.get(token, "")

    @cached_property
    def _names(self) -> dict[int, str]:
        return {token: piece for piece, token in self._vocabulary.items()}

    def _piece_bytes(self, piece: str, token: int) -> bytes:
        if token in self._literal_ids:
            return piece.encode()
        if self._byte_level:
            if all(character in _BYTE_OF for character in piece):
                return bytes(_BYTE_OF[character] for character in piece)
            return piece.encode()
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE_MARK, " ").encode()


def _parse(data: bytes, origin: str) -> dict[str, Any]:
    try:
        state = json.loads(data)
    except ValueError as error:
        raise TokenizerError(
            f"{origin}: not JSON ({error})", remedy="fetch the file again; a large-file pointer is not the file"
        ) from error
    model = state.get("model") if isinstance(state, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise TokenizerError(f"{origin}: JSON, but not a tokenizer: expected 'model' with a 'vocab'", remedy="is it the tokenizer.json?")
    if model.get("type", "BPE") != "BPE" or not isinstance(model["vocab"], dict):
        raise TokenizerError(f"{origin}: model type '{model.get('type')}' is not supported; known: BPE (byte-level, or with byte fallback)")
    if not model["vocab"]:
        raise TokenizerError(f"{origin}: the vocabulary is empty")
    if not isinstance(model.get("merges"), list) or not all(isinstance(token, int) and token >= 0 for token in model["vocab"].values()):
        raise TokenizerError(f"{origin}: the file is not a usable tokenizer: expected 'merges' as a list and ids from 0 on in 'vocab'")
    return state


def _mentions(part: object, kind: str) -> bool:
    if isinstance(part, dict):
        return part.get("type") == kind or any(_mentions(value, kind) for value in part.values())
    return isinstance(part, list) and any(_mentions(value, kind) for value in part)


def _without_control(state: Mapping[str, Any], control: Mapping[str, int]) -> dict[str, Any]:
    """The same tokenizer without its control tokens. Their ids stay taken, by names that no text can spell: a raw space
    never reaches the vocabulary, since both byte-level and ``▁`` spellings replace it."""
    plain = copy.deepcopy(dict(state))
    plain["post_processor"] = None
    added = plain.get("added_tokens") or []
    plain["added_tokens"] = [token for token in added if token["content"] not in control]
    model = plain["model"]
    vocabulary = {**model["vocab"], **{token["content"]: token["id"] for token in added}}  # ids outside would be dealt out anew
    model["vocab"] = {f" {token} " if piece in control else piece: token for piece, token in vocabulary.items()}
    if model.get("unk_token") in control:
        model["unk_token"] = None
    pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
    model["merges"] = [pair for pair in pairs if not control.keys() & {pair[0], pair[1], pair[0] + pair[1]}]
    return plain


def _without_first_space(part: Any) -> Any:
    """The same, but no space is put before a text."""
    if isinstance(part, list):
        return [_without_first_space(value) for value in part if not (isinstance(value, dict) and value.get("type") == "Prepend")]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Prepend":
        return None
    changed = {key: value if key == "model" else _without_first_space(value) for key, value in part.items()}
    if part.get("type") == "Metaspace":
        changed["prepend_scheme"] = "never"
    return changed


def _build(state: Mapping[str, Any], origin: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(state, ensure_ascii=False))
    except Exception as error:  # the library raises bare Exception for every fault in the file
        raise TokenizerError(f"{origin}: the file is not a usable tokenizer: {error}") from error
