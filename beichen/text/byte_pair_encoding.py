"""Fast byte-level BPE: text to ids in C++, with the ids of ``tokenizers``.

Comes in: what a ``tokenizer.json`` says. Goes out: an encoder, or ``None`` where the file asks for something that the C++ does not
do (another pattern, dropout, added words) or where nothing can be compiled; the caller then goes on with ``tokenizers``. A vocabulary is
shared by all threads; each call takes a cache of pieces of its own from a pool.
"""

from __future__ import annotations

import ctypes
import queue
import weakref
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from beichen.text import compiled
from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.pre_tokenization import PATTERNS
from beichen.util.machine import usable_cores

_CHUNK_CHARACTERS = 1 << 18  # of text that one thread encodes at a time
_NAMES = {pattern: name for name, pattern in PATTERNS.items()}


class FastEncoder:
    """The C++ form of one vocabulary."""

    def __init__(
        self, pattern: str, byte_ids: Sequence[int], merges: Sequence[tuple[int, int, int]], whole: Mapping[bytes, int],
        normalize: Callable[[str], str] | None,
    ) -> None:  # fmt: skip
        """``merges``: left, right and resulting id, best first; ``whole``: pieces that a cut of text becomes at once."""
        self._normalize = normalize
        flat = array("I", [number for merge in merges for number in merge])
        pieces, ends, end = list(whole), array("q"), 0
        for piece in pieces:
            end += len(piece)
            ends.append(end)
        ids, letters = array("I", [whole[piece] for piece in pieces]), array("I", byte_ids)
        call = compiled.function("text_vocabulary_new", "ipplpppl>p")
        self._handle: int = call(
            compiled.PATTERN_NUMBERS[pattern], letters.buffer_info()[0], flat.buffer_info()[0], len(merges),
            b"".join(pieces), ends.buffer_info()[0], ids.buffer_info()[0], len(pieces),
        )  # fmt: skip
        self._encode = compiled.function("text_encode", "pppplpp>l")
        self._caches: queue.SimpleQueue[int] = queue.SimpleQueue()
        weakref.finalize(self, _free, self._handle, self._caches)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, on all cores."""
        chunks = _chunks(texts)
        if len(chunks) == 1:
            return self._encode_chunk(chunks[0])
        with ThreadPoolExecutor(min(len(chunks), usable_cores())) as threads:  # not kept: a forked process would inherit a dead pool
            return [ids for part in threads.map(self._encode_chunk, chunks) for ids in part]

    def _encode_chunk(self, texts: Sequence[str]) -> list[list[int]]:
        parts = [text.encode() for text in (texts if self._normalize is None else map(self._normalize, texts))]
        ends, end = array("q"), 0
        for part in parts:
            end += len(part)
            ends.append(end)
        ids, id_ends = (ctypes.c_uint32 * max(1, end))(), (ctypes.c_int64 * max(1, len(parts)))()
        try:
            cache = self._caches.get_nowait()
        except queue.Empty:
            cache = compiled.function("text_cache_new", ">p")()
        try:
            self._encode(self._handle, cache, b"".join(parts), ends.buffer_info()[0], len(parts), ids, id_ends)
        finally:
            self._caches.put(cache)
        found, begins = memoryview(ids).cast("B").cast("I"), [0, *id_ends[: len(parts)]]
        return [found[begin:stop].tolist() for begin, stop in pairwise(begins)]


def _free(handle: int, caches: queue.SimpleQueue[int]) -> None:
    free_cache = compiled.function("text_cache_free", "p")
    while not caches.empty():
        free_cache(caches.get())
    compiled.function("text_vocabulary_free", "p")(handle)


def _chunks(texts: Sequence[str]) -> list[Sequence[str]]:
    chunks: list[Sequence[str]] = []
    begin = size = 0
    for number, text in enumerate(texts):
        size += len(text)
        if size >= _CHUNK_CHARACTERS:
            chunks.append(texts[begin : number + 1])
            begin, size = number + 1, 0
    if begin < len(texts) or not chunks:
        chunks.append(texts[begin:])
    return chunks


def fast_encoder(state: Mapping[str, Any], normalize: Callable[[str], str] | None) -> FastEncoder | None:
    """The encoder for a ``tokenizer.json``; ``normalize``: what its normalizer does to a text."""
    pattern = pattern_name(state.get("pre_tokenizer"))
    model = state["model"]
    plain_model = not any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"))
    if pattern is None or not plain_model or state.get("added_tokens") or compiled.library() is None:
        return None
    alphabet, vocabulary = byte_alphabet(), model["vocab"]
    if not all(letter in vocabulary for letter in alphabet):
        return None
    byte_ids = [0] * 256
    for letter, byte in alphabet.items():
        byte_ids[byte] = vocabulary[letter]
    merges = []
    for merge in model["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        merges.append((vocabulary[left], vocabulary[right], vocabulary[left + right]))
    whole = {}
    if model.get("ignore_merges"):
        spelled = {piece: token for piece, token in vocabulary.items() if all(letter in alphabet for letter in piece)}
        whole = {bytes(alphabet[letter] for letter in piece): token for piece, token in spelled.items()}
    return FastEncoder(pattern, byte_ids, merges, whole, normalize if state.get("normalizer") else None)


def pattern_name(part: Mapping[str, Any] | None) -> str | None:
    """The name of our pattern that a pre-tokenizer cuts by."""
    if part is None:
        return None
    if part.get("type") == "ByteLevel":
        return "gpt2" if part.get("use_regex", True) and not part.get("add_prefix_space") else None
    inner = list(part.get("pretokenizers") or ())
    if part.get("type") != "Sequence" or len(inner) != 2:
        return None
    cut, letters = inner
    if cut.get("type") != "Split" or cut.get("behavior") != "Isolated" or cut.get("invert"):
        return None
    if letters.get("type") != "ByteLevel" or letters.get("use_regex", True) or letters.get("add_prefix_space"):
        return None
    return _NAMES.get((cut.get("pattern") or {}).get("Regex", ""))
