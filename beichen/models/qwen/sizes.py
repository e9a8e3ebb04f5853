"""The published sizes of the base models (instruct models differ in epsilon and in the length they state)."""

from typing import Any

_WORDS, _WORDS_LARGE = 151936, 152064  # rows of the embedding; larger models pad the same vocabulary further


def _size(
    layers: int, hidden: int, heads: int, key_value_heads: int, intermediate: int, *, vocab: int = _WORDS, tied: bool = False, **keys: Any
) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "intermediate_size": intermediate,
        "tie_word_embeddings": tied,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "max_window_layers": layers,
        "use_sliding_window": False,
    } | keys


_QWEN2: dict[str, Any] = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
_1_5 = _QWEN2 | {"max_position_embeddings": 32768}
_2 = _QWEN2 | {"max_position_embeddings": 131072}
_3: dict[str, Any] = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128, "attention_bias": False}
_3 |= {"max_position_embeddings": 40960}

_0_5B = _size(24, 896, 14, 2, 4864, tied=True)
_1_5B = _size(28, 1536, 12, 2, 8960, tied=True)
_7B = _size(28, 3584, 28, 4, 18944, vocab=_WORDS_LARGE)
_72B = _size(80, 8192, 64, 8, 29568, vocab=_WORDS_LARGE)

SIZES: dict[str, dict[str, Any]] = {
    "qwen1.5-0.5b": _size(24, 1024, 16, 16, 2816, tied=True) | _1_5,
    "qwen1.5-1.8b": _size(24, 2048, 16, 16, 5504) | _1_5,
    "qwen1.5-4b": _size(40, 2560, 20, 20, 6912, rope_theta=5000000.0) | _1_5,
    "qwen1.5-7b": _size(32, 4096, 32, 32, 11008) | _1_5,
    "qwen1.5-14b": _size(40, 5120, 40, 40, 13696, vocab=_WORDS_LARGE) | _1_5,
    "qwen1.5-32b": _size(64, 5120, 40, 8, 27392, vocab=_WORDS_LARGE) | _1_5,
    "qwen1.5-72b": _size(80, 8192, 64, 64, 24576, vocab=_WORDS_LARGE) | _1_5,
    "qwen1.5-110b": _size(80, 8192, 64, 8, 49152, vocab=_WORDS_LARGE) | _1_5,
    "qwen2-0.5b": _0_5B | _2,
    "qwen2-1.5b": _1_5B | _2,
    "qwen2-7b": _7B | _2,
    "qwen2-72b": _72B | _2,
    "qwen2.5-0.5b": _0_5B | _2 | {"max_position_embeddings": 32768},
    "qwen2.5-1.5b": _1_5B | _2,
    "qwen2.5-3b": _size(36, 2048, 16, 2, 11008, tied=True) | _2 | {"max_position_embeddings": 32768},
    "qwen2.5-7b": _7B | _2,
    "qwen2.5-14b": _size(48, 5120, 40, 8, 13824, vocab=_WORDS_LARGE, rms_norm_eps=1e-5) | _2,
    "qwen2.5-32b": _size(64, 5120, 40, 8, 27648, vocab=_WORDS_LARGE, rms_norm_eps=1e-5) | _2,
    "qwen2.5-72b": _72B | _2 | {"rms_norm_eps": 1e-5},
    "qwen3-0.6b": _size(28, 1024, 16, 8, 3072, tied=True) | _3,
    "qwen3-1.7b": _size(28, 2048, 16, 8, 6144, tied=True) | _3,
    "qwen3-4b": _size(36, 2560, 32, 8, 9728, tied=True) | _3,
    "qwen3-8b": _size(36, 4096, 32, 8, 12288) | _3,
    "qwen3-14b": _size(40, 5120, 40, 8, 17408) | _3,
    "qwen3-32b": _size(64, 5120, 64, 8, 25600) | _3,
}
