"""The record of a step: counts of the run, speeds of the step, and the arithmetic that shares of the peak are made of."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from beichen.nn import kernels
from beichen.nn.config import ExpertsConfig
from beichen.objectives.next_token import next_token
from beichen.train.flops import training_flops_per_token
from beichen.train.loop_state import LoopState
from beichen.train.step import gather
from beichen.train.step_figures import StepFigures
from tests.train.small_runs import random_batch, tiny_decoder


def test_speeds_are_of_the_step_and_counts_of_the_run():
    decoder, state = tiny_decoder(), LoopState()
    figures = StepFigures(learning_rate=0.02, flops_per_token=2e6, steps_per_epoch=4.0, matmul_peak=0.5, tokens_per_byte=0.25)
    for step in range(3):
        gathered = gather(decoder, [random_batch(rows=2, tokens=12, seed=step)], next_token, seed=0, step=step)
        state.take(gathered, 0.5)
        record = figures.record(state, gathered, rate_factor=0.5, gradient_norm=1.0, seconds=0.5)
        assert record["step"] == step + 1 and record["tokens"] == 24 * (step + 1) and record["epoch"] == (step + 1) / 4
        assert record["tokens_per_second"] == 48.0 and record["gflops"] == pytest.approx(48 * 2e6 / 1e9, abs=0.005)
        assert record["share_of_peak"] == pytest.approx(48 * 2e6 / 1e9 / 0.5, abs=1e-4)
        assert record["learning_rate"] == 0.01
        assert record["bits_per_byte"] == pytest.approx(record["loss"] / math.log(2) / 4)
    without = StepFigures(learning_rate=0.02, flops_per_token=2e6, steps_per_epoch=4.0)
    assert {"share_of_peak", "bits_per_byte"}.isdisjoint(without.record(state, gathered, rate_factor=1.0, gradient_norm=1.0, seconds=1.0))


def test_memory_is_what_the_process_holds():
    """In a process of its own: this one may still hold what earlier tests have freed."""
    program = """
import numpy
from beichen.util.memory import resident_bytes
before = resident_bytes()
held = numpy.ones(20_000_000, numpy.float32)
print(before, resident_bytes() - before)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, grown = map(int, answer.stdout.split())
    assert before > 5e6 and 75e6 < grown < 120e6


@pytest.mark.parametrize("tied", [True, False])
def test_the_formula_is_what_torch_counts(tied):
    """Of a forward and a backward through torch's own operations. The formula has besides what the counter does not see: the products of
    attention, unmasked, and the vectors of norms and biases as if they were multiplied."""
    decoder = tiny_decoder(tie_word_embeddings=tied, hidden_size=32, head_dim=8, num_key_value_heads=4, intermediate_size=48)
    config, tokens = decoder.config, 24
    with kernels.switched_off(), FlopCounterMode(display=False) as counter:
        hidden = decoder(torch.randint(30, (2, tokens)))
        (hidden @ decoder.head_weight.T).sum().backward()
    vectors = sum(parameter.numel() for parameter in decoder.parameters() if parameter.ndim < 2)
    attention = 12 * config.num_hidden_layers * config.hidden_size * tokens
    formula = training_flops_per_token(config, tokens)
    assert formula - 6 * vectors - attention == counter.get_total_flops() / (2 * tokens)


def test_experts_count_as_the_channels_that_a_token_meets():
    sizes: dict[str, Any] = {"hidden_size": 32, "head_dim": 8, "down_bias": False}
    mixture = tiny_decoder(experts=ExpertsConfig(num_experts=6, num_experts_per_token=2, intermediate_size=16), **sizes).config
    dense = tiny_decoder(intermediate_size=32, **sizes).config
    routers = 6.0 * mixture.num_hidden_layers * 6 * 32
    assert training_flops_per_token(mixture, 24) == training_flops_per_token(dense, 24) + routers


def test_a_frozen_base_costs_a_third_less():
    config = tiny_decoder().config
    attention = 12.0 * config.num_hidden_layers * config.hidden_size * 32
    whole, frozen = training_flops_per_token(config, 32), training_flops_per_token(config, 32, frozen=True)
    assert (frozen - attention) / (whole - attention) == pytest.approx(2 / 3)
