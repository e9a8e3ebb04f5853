"""A longer trained length: for TeleChat2's rule the base is stretched for it at once and no score is scaled within it."""

from __future__ import annotations

import math

import pytest
import torch

from beichen.errors import SettingsError
from beichen.nn.config import RopeConfig
from beichen.nn.lengthening import lengthen
from beichen.nn.rope import rope_rule
from tests.train.small_runs import tiny_decoder

TELECHAT2 = RopeConfig(rule="scaled_stepped_ntk", original_length=32, trained_length=32)


def test_only_the_trained_length_changes():
    decoder = tiny_decoder(rope=TELECHAT2, head_dim=8, hidden_size=32).eval()
    bridged = rope_rule(decoder.config.rope, 8, 128)
    assert bridged.attention_scale == pytest.approx(1 + 0.1 * math.log(4)) and bridged.stretch == 7
    ids = torch.arange(20)[None]
    before = decoder(ids)
    lengthen(decoder, 128)
    trained = rope_rule(decoder.config.rope, 8, 128)
    assert decoder.config.max_position_embeddings == 128 and decoder.config.rope.original_length == 32
    assert trained.attention_scale == 1.0 and torch.equal(trained.inverse_frequencies, bridged.inverse_frequencies)
    assert torch.equal(rope_rule(decoder.config.rope, 8, 5).inverse_frequencies, trained.inverse_frequencies)  # short inputs as well
    assert not torch.allclose(decoder(ids), before)  # the tables are new


def test_a_rule_without_a_trained_length_stays():
    decoder = tiny_decoder()
    lengthen(decoder, 64)
    assert decoder.config.rope == RopeConfig() and decoder.config.max_position_embeddings == 64


def test_shorter_is_refused():
    with pytest.raises(SettingsError, match="context_length=16"):
        lengthen(tiny_decoder(), 16)
