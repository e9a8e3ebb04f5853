"""Random Llama configs of every kind: stock transformers and our decoder agree, in both directions of the files."""

from __future__ import annotations

import pytest
import torch

from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
CASES = [
    {},
    {"num_key_value_heads": 2, "tie_word_embeddings": True},
    {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    {"head_dim": 12, "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0}},
    {"rope_parameters": LLAMA3 | {"rope_theta": 500.0}, "rms_norm_eps": 1e-3},
]


@pytest.mark.parametrize("keys", CASES, ids=range(len(CASES)))
def test_transformers_and_we_agree_in_both_directions(tmp_path, keys):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, **keys
    )  # fmt: skip
    theirs = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    ids = torch.randint(0, 50, (2, 40))
    loaded = load_checkpoint(tmp_path / "theirs")
    save_checkpoint(tmp_path / "ours", loaded.decoder, family="llama")  # in our words, not theirs
    back = LlamaForCausalLM.from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        expected = theirs(ids).logits
        assert (loaded.decoder.logits(loaded.decoder(ids)) - expected).abs().max() < 2e-5
        assert torch.equal(back(ids).logits, expected)
