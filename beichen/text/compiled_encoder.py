"""A vocabulary in C++ with its caches: many texts to ids, on all cores.

Comes in: a handle that C++ made, and the names of the functions that use and free it. Goes out: ids of texts. A vocabulary is shared by all
threads and never changes; each call takes a cache of pieces of its own from a pool. Byte-level and SentencePiece vocabularies build on it.
"""

from __future__ import annotations

import ctypes
import queue
import weakref
from array import array
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise

from beichen.text import compiled
from beichen.util.machine import usable_cores

_CHUNK_CHARACTERS = 1 << 18  # of text that one thread encodes at a time


class CompiledEncoder:
    """``encode``: a C function of vocabulary, cache, text, ends, number of texts, a whole number, and where ids and their ends go."""

    def __init__(self, handle: int, *, encode: str, free: str, normalize: Callable[[str], str] | None = None) -> None:
        self._handle, self._normalize = handle, normalize
        self._encode = compiled.function(encode, "pppplipp>l")
        self._caches: queue.SimpleQueue[int] = queue.SimpleQueue()
        weakref.finalize(self, _free, free, handle, self._caches)

    def encode_batch(self, texts: Sequence[str], *, prefixed: bool = False) -> list[list[int]]:
        """Ids of each text. ``prefixed``: with what the vocabulary puts before a text, if it puts anything."""
        chunks = _chunks(texts)
        if len(chunks) == 1:
            return self._encode_chunk(chunks[0], prefixed)
        with ThreadPoolExecutor(min(len(chunks), usable_cores())) as threads:  # not kept: a forked process would inherit a dead pool
            return [ids for part in threads.map(lambda chunk: self._encode_chunk(chunk, prefixed), chunks) for ids in part]

    def _encode_chunk(self, texts: Sequence[str], prefixed: bool) -> list[list[int]]:
        joined, ends = joined_texts(text.encode() for text in (texts if self._normalize is None else map(self._normalize, texts)))
        ids, id_ends = (ctypes.c_uint32 * (len(joined) + len(texts) + 1))(), (ctypes.c_int64 * (len(texts) + 1))()
        try:
            cache = self._caches.get_nowait()
        except queue.Empty:
            cache = compiled.function("text_cache_new", ">p")()
        try:
            self._encode(self._handle, cache, joined, ends.buffer_info()[0], len(texts), prefixed, ids, id_ends)
        finally:
            self._caches.put(cache)
        found, begins = memoryview(ids).cast("B").cast("I"), [0, *id_ends[: len(texts)]]
        return [found[begin:stop].tolist() for begin, stop in pairwise(begins)]


def _free(free: str, handle: int, caches: queue.SimpleQueue[int]) -> None:
    free_cache = compiled.function("text_cache_free", "p")
    while not caches.empty():
        free_cache(caches.get())
    compiled.function(free, "p")(handle)


def joined_texts(texts: Iterable[bytes]) -> tuple[bytes, array[int]]:
    """Texts one after the other, and where each ends, as C++ reads them."""
    parts = list(texts)
    return b"".join(parts), array("q", accumulate(map(len, parts)))


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
