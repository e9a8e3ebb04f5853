"""The published sizes."""

from typing import Any

_COMMON: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}

SIZES: dict[str, dict[str, Any]] = {
    "llama2-7b": _COMMON
    | {"vocab_size": 32000, "num_key_value_heads": 32, "intermediate_size": 11008, "max_position_embeddings": 4096, "rope_theta": 10000.0},
    "llama3-8b": _COMMON
    | {"vocab_size": 128256, "num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 8192, "rope_theta": 500000.0},
}
