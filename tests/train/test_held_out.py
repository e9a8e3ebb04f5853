"""Held-out loss: every scored position once, in bits per byte, whatever the batches."""

from __future__ import annotations

import math

import pytest
import torch

from beichen.data.batch import IGNORED
from beichen.train.held_out import HeldOut, evaluate_held_out
from tests.train.small_runs import random_batch, tiny_decoder


@pytest.mark.parametrize("changes", [{}, {"logit_scale": 0.4}, {"hidden_dropout": 0.5, "attention_dropout": 0.5}])
@pytest.mark.parametrize("training", [True, False])
def test_equals_a_slow_count(changes, training):
    decoder = tiny_decoder(**changes)
    batches = [random_batch(rows=2, tokens=9, seed=seed, scored=scored) for seed, scored in enumerate((1.0, 0.3, 0.0))]
    nats, targets = 0.0, 0
    decoder.eval()
    for batch in batches:
        for row in range(2):
            with torch.no_grad():
                hidden = decoder(batch.input_ids[row : row + 1], positions=batch.positions[row : row + 1],
                                 first_visible=batch.first_visible[row : row + 1])  # fmt: skip
                likelihoods = decoder.logits(hidden)[0].double().log_softmax(-1)
            for column, target in enumerate(batch.targets[row].tolist()):
                if target != IGNORED:
                    nats, targets = nats - float(likelihoods[column, target]), targets + 1
    decoder.train(training)
    found = evaluate_held_out(decoder, batches, num_bytes=123)
    assert decoder.training is training, "its mode is as before"
    assert found.nats == pytest.approx(nats, rel=1e-6) and found.targets == targets
    assert found.loss == pytest.approx(nats / targets, rel=1e-6)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / 123, rel=1e-6)
    assert all(parameter.grad is None for parameter in decoder.parameters())


def test_nothing_scored_is_zero():
    assert HeldOut(nats=0.0, targets=0, num_bytes=0).loss == HeldOut(nats=0.0, targets=0, num_bytes=0).bits_per_byte == 0.0


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary():
    decoder = tiny_decoder()
    decoder.head_weight.data.zero_()
    batch = random_batch(rows=4, tokens=16, seed=0)
    found = evaluate_held_out(decoder, [batch], num_bytes=64)
    assert found.loss == pytest.approx(math.log(30)) and found.bits_per_byte == pytest.approx(math.log2(30))
