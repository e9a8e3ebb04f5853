"""Fast byte-level BPE: text to ids in C++, with the ids of ``tokenizers``.

Comes in: what a ``tokenizer.json`` says. Goes out: an encoder, or ``None`` where the file asks for something that the C++ does not
do (another pattern, dropout, added words) or where nothing can be compiled; the caller then goes on with ``tokenizers``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

from beichen.text import compiled
from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.compiled_encoder import CompiledEncoder, joined_texts
from beichen.text.pre_tokenization import PATTERNS

_NAMES = {pattern: name for name, pattern in PATTERNS.items()}


def fast_encoder(state: Mapping[str, Any], normalize: Callable[[str], str] | None) -> CompiledEncoder | None:
    """The encoder for a ``tokenizer.json``; ``normalize``: what its normalizer does to a text."""
    pattern, model = pattern_name(state.get("pre_tokenizer")), state["model"]
    if pattern is None or not is_plain(state) or compiled.library() is None:
        return None
    alphabet, vocabulary = byte_alphabet(), model["vocab"]
    byte_ids = [0] * 256
    for letter, byte in alphabet.items():
        byte_ids[byte] = vocabulary[letter]
    merges = array("I")
    for merge in model["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        merges.extend((vocabulary[left], vocabulary[right], vocabulary[left + right]))
    whole: dict[bytes, int] = {}
    if model.get("ignore_merges"):
        spelled = {piece: token for piece, token in vocabulary.items() if all(letter in alphabet for letter in piece)}
        whole = {bytes(alphabet[letter] for letter in piece): token for piece, token in spelled.items()}
    pieces, ends = joined_texts(whole)
    ids, letters = array("I", whole.values()), array("I", byte_ids)
    handle = compiled.function("text_vocabulary_new", "ipplpppl>p")(
        compiled.PATTERN_NUMBERS[pattern], letters.buffer_info()[0], merges.buffer_info()[0], len(merges) // 3,
        pieces, ends.buffer_info()[0], ids.buffer_info()[0], len(ids),
    )  # fmt: skip
    normalized = normalize if state.get("normalizer") else None
    return CompiledEncoder(handle, encode="text_encode", free="text_vocabulary_free", normalize=normalized)


def is_plain(state: Mapping[str, Any]) -> bool:
    """Whether it is byte-level pieces and nothing else: each byte of a normalized text is part of one piece."""
    model = state["model"]
    plain_model = not any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"))
    known = pattern_name(state.get("pre_tokenizer")) is not None and not state.get("added_tokens")
    return plain_model and known and all(letter in model["vocab"] for letter in byte_alphabet())


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
