"""The arithmetic behind every share of peak, against torch's own flop counter; and both libraries hold the same model."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from beichen.models.llama import FAMILY
from beichen.objectives.next_token import next_token
from bench.trainers import as_batch
from bench.workload import head_and_layer_parameters, ours, random_batch, reference_config, theirs, training_flops_per_token

TINY = FAMILY.new_config(
    vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=64
)


def test_flops_per_token_are_what_the_matmuls_of_a_step_cost():
    tokens = 16
    decoder = ours(TINY, torch.float32)
    batch = as_batch(random_batch(TINY, 0, rows=2, tokens=tokens))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        next_token(decoder, batch).loss_sum.backward()
    norms = sum(parameter.numel() for name, parameter in decoder.named_parameters() if "norm" in name)  # counted as parameters, no matmul
    assert counter.get_total_flops() == 2 * tokens * (training_flops_per_token(TINY, tokens) - 6 * norms)


def test_the_reference_has_42_million_parameters():
    config = reference_config()
    assert round((head_and_layer_parameters(config) + config.vocab_size * config.hidden_size) / 1e6) == 42


def test_both_libraries_compute_the_same_logits():
    ids = random_batch(TINY, 1, rows=2, tokens=12)
    with torch.no_grad():
        mine = ours(TINY, torch.float32).eval()
        expected = theirs(TINY, torch.float32).eval()(ids).logits
        torch.testing.assert_close(mine.logits(mine(ids)), expected, atol=1e-5, rtol=1e-5)
