"""TeleChat-52B: its published keys, multipliers and layout."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import ConfigError
from beichen.models.registry import family_of, load_family
from beichen.nn.decoder import Decoder
from beichen.nn.initialization import initialize

FAMILY = load_family("telechat52b")
SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 20,
    "max_position_embeddings": 32,
}  # fmt: skip


def published(**changes):
    return FAMILY.from_decoder_config(FAMILY.new_config(**SIZES)) | changes


def test_logits_are_scaled_by_output_over_scale_factor_and_the_embedding_by_its_own():
    config = FAMILY.to_decoder_config(published(output_mult=3.0, mup_scale_factor=4.0, input_mult=1.5))
    assert (config.logit_scale, config.embedding_scale) == (0.75, 1.5)
    assert FAMILY.to_decoder_config(FAMILY.sizes["telechat-52b"]).logit_scale == 1 / 32


@pytest.mark.parametrize(
    ("key", "value"),
    [("use_RMSNorm", False), ("add_bias_linear", True), ("rotary_use_xpos", True), ("use_mup", False), ("activation_function", "gelu"),
     ("relative_encoding", None), ("embd_pdrop", 0.1), ("scale_attn_weights", 1), ("mup_scale_factor", 0)],
)  # fmt: skip
def test_a_switch_that_no_published_checkpoint_uses_is_an_error_that_names_it(key, value):
    with pytest.raises(ConfigError, match=key):
        FAMILY.to_decoder_config(published(**{key: value}))


def test_its_keys_tell_the_family_where_no_architecture_is_stated():
    keys = published()
    assert "architectures" not in keys and family_of(keys) == "telechat52b"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_files_hold_transposed_projections_and_a_mask_scalar_for_each_layer(tmp_path, dtype):
    decoder = Decoder(FAMILY.new_config(**SIZES))
    initialize(decoder, 0)
    save_checkpoint(tmp_path / "saved", decoder, family="telechat52b", dtype=dtype)
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    qkv = decoder.state_dict()["layers.1.attention.qkv.weight"]
    assert torch.equal(stored["transformer.h.1.attn.c_attn.weight"], qkv.T.to(dtype))
    assert stored["transformer.h.0.mlp.c_proj.weight"].shape == (20, 24)
    scalars = [tensor for name, tensor in stored.items() if name.endswith("attn.masked_bias")]
    assert len(scalars) == 2 and all(torch.equal(scalar, torch.tensor(-10000.0).to(dtype)) for scalar in scalars)
    assert "architectures" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    again = load_checkpoint(tmp_path / "saved").decoder.state_dict()
    assert all(torch.equal(again[name], tensor.to(dtype)) for name, tensor in decoder.state_dict().items())
