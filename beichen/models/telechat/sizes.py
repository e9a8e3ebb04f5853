"""The published sizes. 7B trains with dropout 0.1, as its config says; the constants of its rope are in ``config.py``."""

from typing import Any

_COMMON: dict[str, Any] = {
    "architectures": ["TelechatForCausalLM"],
    "model_type": "telechat",
    "n_head": 32,
    "ffn_hidden_size": 12288,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "training_seqlen": 8192,
}
_12B = _COMMON | {"n_layer": 38, "hidden_size": 5120, "vocab_size": 120000, "tie_word_embeddings": False}

SIZES: dict[str, dict[str, Any]] = {
    "telechat-7b": _COMMON
    | {"n_layer": 30, "hidden_size": 4096, "vocab_size": 160256, "tie_word_embeddings": True}
    | {"attention_dropout": 0.1, "hidden_dropout": 0.1},
    "telechat-12b": _12B,
    "telechat-12b-v2": _12B,
}
