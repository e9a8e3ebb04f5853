"""A tokenizer in the words of other programs: tiktoken's ranks, llama.cpp's GGUF fields.

Comes in: a byte-level tokenizer (``tokenizer.json``). Goes out: plain values, so that neither program is needed here. A vocabulary says all
of this by itself but for its pattern, which llama.cpp knows by name alone: ``gguf_fields`` refuses patterns that it has no name for, since
text would silently be cut otherwise there.
"""

from __future__ import annotations

import json
from typing import Any

from beichen.errors import TokenizerError
from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.byte_pair_encoding import pattern_name
from beichen.text.pre_tokenization import split_pattern
from beichen.text.tokenizer import Tokenizer
from beichen.text.vocabulary_folder import JSON_FILE

# Names in llama.cpp's table of pre-tokenizers (llama-vocab.cpp: the comparisons with tokenizer_pre).
GGUF_PATTERNS = {"gpt2": "gpt-2", "qwen2": "qwen2", "llama3": "llama-bpe"}
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5  # llama.cpp's kinds of tokens


def tiktoken_arguments(tokenizer: Tokenizer) -> dict[str, Any]:
    """What ``tiktoken.Encoding(name, **arguments)`` takes; its ``encode_ordinary`` then gives the ids of ``tokenizer.encode``."""
    state, pattern = _state(tokenizer)
    if state.get("normalizer") is not None:
        raise TokenizerError(
            "tiktoken rewrites no text before it is cut, and this tokenizer does", remedy="train one without normalization"
        )
    alphabet = byte_alphabet()
    pieces = {piece: token for piece, token in state["model"]["vocab"].items() if piece not in tokenizer.special_ids}
    ranks = {bytes(alphabet[letter] for letter in piece): token for piece, token in pieces.items()}
    return {"pat_str": split_pattern(pattern), "mergeable_ranks": ranks, "special_tokens": dict(tokenizer.special_ids)}


def gguf_fields(tokenizer: Tokenizer) -> dict[str, Any]:
    """Keys and values of the tokenizer part of a GGUF file."""
    state, pattern = _state(tokenizer)
    if pattern not in GGUF_PATTERNS:
        raise TokenizerError(
            f"llama.cpp has no pre-tokenizer that cuts as the pattern '{pattern}' does",
            remedy=f"train with one of {', '.join(GGUF_PATTERNS)} for llama.cpp",
        )
    if state.get("normalizer") is not None:
        raise TokenizerError(
            "llama.cpp rewrites no text before it is cut, and this tokenizer does", remedy="train one without normalization"
        )
    names = {token: piece for piece, token in state["model"]["vocab"].items()}
    names |= {token: name for name, token in tokenizer.special_ids.items()}
    tokens = [names.get(token, f"[UNUSED{token}]") for token in range(tokenizer.vocab_size)]
    control = set(tokenizer.special_ids.values())
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
    fields: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": GGUF_PATTERNS[pattern],
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [
            _CONTROL if token in control else _NORMAL if token in names else _UNUSED for token in range(len(tokens))
        ],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": tokenizer.end_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_id,
        "tokenizer.ggml.add_bos_token": False,
    }
    return fields if tokenizer.start_id is None else {**fields, "tokenizer.ggml.bos_token_id": tokenizer.start_id}


def _state(tokenizer: Tokenizer) -> tuple[dict[str, Any], str]:
    data = tokenizer.file(JSON_FILE)
    state = {} if data is None else json.loads(data)
    pattern = pattern_name(state.get("pre_tokenizer"))
    if pattern is None:
        raise TokenizerError(
            "only byte-level vocabularies with a pattern known here can be handed on", remedy="see beichen tokenizer train"
        )
    return state, pattern
