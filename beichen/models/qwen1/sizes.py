"""The published sizes; 14B was trained on rows of 2048 tokens, the others on 8192."""

from typing import Any

_COMMON: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "model_type": "qwen",
    "kv_channels": 128,
    "layer_norm_epsilon": 1e-6,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "no_bias": True,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
    "seq_length": 8192,
}

SIZES: dict[str, dict[str, Any]] = {
    "qwen-1.8b": _COMMON
    | {"vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 11008},
    "qwen-7b": _COMMON
    | {"vocab_size": 151936, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 22016},
    "qwen-14b": _COMMON
    | {"vocab_size": 152064, "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "intermediate_size": 27392}
    | {"seq_length": 2048},
}
