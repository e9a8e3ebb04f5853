"""The published sizes.

Widths, depths and the vocabulary are published. ``training_seqlen``, ``base_seqlen`` and epsilon are known for 115B
only; for the others they are those of the published training files (8192, 1e-5); 32768 is the name's word for the 32K models
and a third-party report for 3B. A checkpoint's own config.json has the last word.
"""

from typing import Any

_COMMON: dict[str, Any] = {
    "architectures": ["TeleChat2ForCausalLM"],
    "model_type": "telechat",
    "vocab_size": 131072,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "training_seqlen": 8192,
    "base_seqlen": 8192,
}

_7B = _COMMON | {"n_layer": 30, "hidden_size": 4096, "n_head": 32, "ffn_hidden_size": 12288}
_35B = _COMMON | {"n_layer": 64, "hidden_size": 6144, "n_head": 48, "ffn_hidden_size": 20480}

SIZES: dict[str, dict[str, Any]] = {
    "telechat2-3b": _COMMON | {"n_layer": 24, "hidden_size": 3072, "n_head": 24, "ffn_hidden_size": 6144, "training_seqlen": 32768},
    "telechat2-7b": _7B,
    "telechat2-7b-32k": _7B | {"training_seqlen": 32768},
    "telechat2-35b": _35B,
    "telechat2-35b-32k": _35B | {"training_seqlen": 32768},
    "telechat2-115b": _COMMON
    | {
        "n_layer": 96,
        "hidden_size": 8192,
        "n_head": 64,
        "num_key_value_heads": 8,
        "ffn_hidden_size": 40960,
        "layer_norm_epsilon": 1e-8,
    },
    "telechat2-39b-a12b": _COMMON
    | {
        "n_layer": 30,
        "hidden_size": 4096,
        "n_head": 32,
        "ffn_hidden_size": 6144,
        "num_experts": 16,
        "num_chosen_experts": 4,
        "aux_loss_factor": 0.01,
    },
}
