"""Small checkpoint folders for the tests of this area."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from beichen.checkpoints.saving import save_checkpoint
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder


def random_decoder(family: str = "telechat2", *, seed: int = 0, dtype: torch.dtype = torch.float32, **sizes: Any) -> Decoder:
    """Two layers, grouped heads, every parameter random."""
    defaults: dict[str, Any] = {
        "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
        "intermediate_size": 20, "max_position_embeddings": 32,
    }  # fmt: skip
    config = load_family(family).new_config(**(defaults | sizes))
    decoder = Decoder(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            mean = 1.0 if "norm" in name else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + mean)
    return decoder.to(dtype).eval()


def write_checkpoint(folder: Path, family: str = "telechat2", *, replace: Any = False, **keys: Any) -> Decoder:
    """A saved random decoder."""
    decoder = random_decoder(family, **keys)
    save_checkpoint(folder, decoder, family=family, replace=replace)
    return decoder


def edit_config(folder: Path, **changes: object) -> None:
    """Change keys of config.json; None removes a key."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
