"""How well a tokenizer compresses texts.

Comes in: a tokenizer and texts. Goes out: sums, from which bytes and characters per token follow, and how many characters stay whole:
a character that no boundary between two tokens cuts. What a vocabulary does not cover, it spells in bytes, so it is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

_BATCH = 256  # texts encoded at once


class Vocabulary(Protocol):
    """What is asked of a tokenizer."""

    vocab_size: int

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def token_bytes(self, token: int) -> bytes: ...


@dataclass(frozen=True)
class Compression:
    """Sums over texts. ``whole``: characters that are not cut, of ``checked``: those of texts whose tokens spell the text."""

    texts: int = 0
    bytes: int = 0
    characters: int = 0
    tokens: int = 0
    whole: int = 0
    checked: int = 0
    used: int = 0  # different ids

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens if self.tokens else 0.0

    @property
    def characters_per_token(self) -> float:
        return self.characters / self.tokens if self.tokens else 0.0

    @property
    def coverage(self) -> float | None:
        """Share of characters that stay whole; ``None`` where the tokens never spell the text (it is rewritten first)."""
        return self.whole / self.checked if self.checked else None


def measure_compression(tokenizer: Vocabulary, texts: Iterable[str]) -> Compression:
    """The sums over all texts."""
    sizes = np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)], dtype=np.int64)
    used = np.zeros(tokenizer.vocab_size, dtype=bool)
    total = Compression()
    for batch in _batches(texts):
        for text, ids in zip(batch, tokenizer.encode_batch(batch), strict=True):
            array = np.array(ids, dtype=np.int64)
            used[array] = True
            data = text.encode()
            whole, checked = _whole_characters(data, len(text), sizes[array])
            total = Compression(
                total.texts + 1, total.bytes + len(data), total.characters + len(text), total.tokens + len(ids), total.whole + whole,
                total.checked + checked,
            )  # fmt: skip
    return Compression(total.texts, total.bytes, total.characters, total.tokens, total.whole, total.checked, int(used.sum()))


def _whole_characters(data: bytes, characters: int, sizes: np.ndarray) -> tuple[int, int]:
    """How many characters are not cut, and of how many that is known."""
    excess = int(sizes.sum()) - len(data)
    if excess not in (0, 1) or not characters:  # 1: a space that nobody wrote comes first
        return 0, 0
    begins = np.frombuffer(data, dtype=np.uint8) & 0xC0 != 0x80
    number = np.cumsum(begins) - 1  # of the character that each byte belongs to
    boundaries = np.cumsum(sizes)[:-1] - excess
    boundaries = boundaries[(boundaries > 0) & (boundaries < len(data))]
    cut = np.unique(number[boundaries[~begins[boundaries]]])
    return characters - len(cut), characters


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
