"""Tokenizers without files, and stores made with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beichen.data.encoding import encode_documents
from beichen.data.sources import Document
from beichen.data.store import TokenStore


class ByteTokenizer:
    """Each byte is its own id; 256 is the end token."""

    def __init__(self, name: str = "bytes", vocab_size: int = 257) -> None:
        self.fingerprint, self.vocab_size, self.end_id = name, vocab_size, 256

    def encode_batch(self, texts: Sequence[str], /) -> list[list[int]]:
        return [list(text.encode("utf-8")) for text in texts]


class CharacterTokenizer:
    """Each character is its own id; 0 is the end token."""

    fingerprint, vocab_size, end_id = "characters", 0x110000, 0

    def encode_batch(self, texts: Sequence[str], /) -> list[list[int]]:
        return [[ord(character) for character in text] for text in texts]


def documents_of(texts: Sequence[str]) -> list[Document]:
    return [Document(text, "memory", "", number + 1) for number, text in enumerate(texts)]


def make_store(folder: Path, texts: Sequence[str]) -> TokenStore:
    return encode_documents(documents_of(texts), ByteTokenizer(), folder).train
