"""The published sizes."""

from typing import Any

_COMMON: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
_2 = _COMMON | {"vocab_size": 32000, "max_position_embeddings": 4096, "rope_theta": 10000.0}
_3 = _COMMON | {"vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 8192, "rope_theta": 500000.0}


def _stretched(factor: float) -> dict[str, Any]:
    """What 3.1 and 3.2 add to 3: a longer reach."""
    numbers = {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", **numbers}}


_3_8B = _3 | {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336}
_3_70B = _3 | {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672}

SIZES: dict[str, dict[str, Any]] = {
    "llama2-7b": _2
    | {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11008},
    "llama2-13b": _2
    | {"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 40, "intermediate_size": 13824},
    "llama2-70b": _2
    | {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672},
    "llama3-8b": _3_8B,
    "llama3-70b": _3_70B,
    "llama3.1-8b": _3_8B | _stretched(8.0),
    "llama3.1-70b": _3_70B | _stretched(8.0),
    "llama3.2-1b": _3
    | _stretched(32.0)
    | {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "head_dim": 64, "intermediate_size": 8192}
    | {"tie_word_embeddings": True},
    "llama3.2-3b": _3
    | _stretched(32.0)
    | {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "head_dim": 128, "intermediate_size": 8192}
    | {"tie_word_embeddings": True},
    "llama3.3-70b": _3_70B | _stretched(8.0),
}
