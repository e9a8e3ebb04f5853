"""The published sizes."""

from typing import Any

_COMMON: dict[str, Any] = {"vocab_size": 60930, "hidden_size": 1600, "num_hidden_layers": 12, "rms_norm_eps": 1e-6}

SIZES: dict[str, dict[str, Any]] = {
    "ndl-0.8b": _COMMON
    | {
        "architectures": ["NDLForCausalLM"],
        "model_type": "Ndl",
        "intermediate_size": 7800,
        "num_attention_heads": 16,
        "max_position_embeddings": 512,
    },
    "ndl-moe-1.3b": _COMMON
    | {
        "architectures": ["NDLMOEForCausalLM"],
        "model_type": "NdlMOE",
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "max_position_embeddings": 1024,
        "moe_intermediate_size": 1024,
        "n_shared_experts": 2,
        "n_routed_experts": 15,
        "num_experts_per_tok": 4,
        "moe_layer_freq": 1,
        "first_k_dense_replace": 1,
        "norm_topk_prob": False,
        "aux_loss_alpha": 0.001,
        "seq_aux": True,
    },
}
