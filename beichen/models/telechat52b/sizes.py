"""The published size; every key of the published ``config.json`` that changes the network."""

from typing import Any

from beichen.models.telechat52b.config import SWITCHES

SIZES: dict[str, dict[str, Any]] = {
    "telechat-52b": SWITCHES
    | {
        "model_type": "telechat",
        "vocab_size": 80896,
        "n_embd": 8192,
        "n_layer": 64,
        "n_head": 64,
        "n_inner": 21824,
        "n_positions": 4096,
        "layer_norm_epsilon": 1e-5,
        "rotary_theta": 10000,
        "tie_word_embeddings": False,
        "input_mult": 1.0,
        "output_mult": 1.0,
        "mup_scale_factor": 32.0,
        "initializer_range": 0.02,
    }
}
