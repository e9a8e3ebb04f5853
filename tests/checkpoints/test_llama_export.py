"""The same weights in Llama layout: stock transformers computes equal logits up to the trained length."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from beichen.checkpoints.llama_export import export_llama, llama_config
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import ConfigError
from beichen.nn.config import ExpertsConfig, RopeConfig
from beichen.nn.decoder import Decoder
from tests.checkpoints.folders import random_decoder

TOLERANCE = 2e-5  # float32, logits of standard deviation 1 to 3


@pytest.mark.parametrize(("base_length", "trained_length", "tied"), [(32, 32, False), (64, 32, True), (16, 32, False), (8, 32, True)])
def test_stock_transformers_gives_equal_logits(tmp_path, base_length, trained_length, tied):
    from transformers import AutoModelForCausalLM

    plain = random_decoder(tie_word_embeddings=tied)
    config = replace(plain.config, rope=RopeConfig(rule="scaled_stepped_ntk", original_length=base_length, trained_length=trained_length))
    decoder = Decoder(config).eval()
    decoder.load_state_dict(plain.state_dict())
    save_checkpoint(tmp_path / "ours", decoder, family="telechat2", token_ids={"bos_token_id": 1, "eos_token_id": 2})
    (tmp_path / "ours" / "tokenizer_config.json").write_text("{}")
    export_llama(tmp_path / "ours", tmp_path / "llama")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "llama", dtype=torch.float32).eval()
    ids = torch.randint(0, config.vocab_size, (3, trained_length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = decoder.logits(decoder(ids))
        assert (theirs(ids).logits - expected).abs().max() < TOLERANCE
        loaded = load_checkpoint(tmp_path / "llama").decoder
        assert (loaded.logits(loaded(ids)) - expected).abs().max() < TOLERANCE
    assert type(theirs).__name__ == "LlamaForCausalLM" and theirs.config.eos_token_id == 2
    assert (tmp_path / "llama" / "tokenizer_config.json").exists()


@pytest.mark.parametrize("rule", ["stepped_ntk", "stepped_base"])
def test_a_rule_that_acts_beyond_the_trained_length_alone_is_none_in_llama_layout(rule):
    stepped = replace(random_decoder().config, rope=RopeConfig(rule=rule, base=500.0, original_length=32))
    assert llama_config(stepped).rope == RopeConfig(base=500.0)


EXPERTS = ExpertsConfig(num_experts=4, num_experts_per_token=2, intermediate_size=8)


@pytest.mark.parametrize(
    "change",
    [
        {"residual_after_norm": True},
        {"embedding_norm": True},
        {"logit_scale": 0.5},
        {"norm": "layer"},
        {"experts": EXPERTS},
        {"rope": RopeConfig(rule="stepped_ntk", original_length=16)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_llama_cannot_say_is_refused_by_name(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        llama_config(replace(random_decoder().config, **change))
