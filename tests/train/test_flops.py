"""FLOPs per token equal a count by hand from the sizes, tied or not, also when read from a folder."""

from __future__ import annotations

import pytest

from beichen.checkpoints.saving import save_checkpoint
from beichen.train.flops import flops_per_token, training_flops_per_token
from tests.checkpoints.folders import random_decoder


@pytest.mark.parametrize("tied", [True, False])
def test_equals_a_count_by_hand(tmp_path, tied):
    decoder = random_decoder("llama", tie_word_embeddings=tied, vocab_size=40, hidden_size=24, num_attention_heads=6,
                             num_key_value_heads=2, intermediate_size=20, num_hidden_layers=2)  # fmt: skip
    layer = 24 * (24 + 2 * 8) + 24 * 24 + 3 * 24 * 20 + 2 * 24
    multiplied = 2 * layer + 24 + 40 * 24  # layers, final norm, head: the embedding is looked up
    assert training_flops_per_token(decoder.config, 32) == 6 * multiplied + 12 * 2 * 24 * 32
    save_checkpoint(tmp_path, decoder, family="llama")
    assert flops_per_token(tmp_path) == training_flops_per_token(decoder.config, decoder.config.max_position_embeddings)
