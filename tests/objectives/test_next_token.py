"""Next-token loss: a sum over scored positions, equal to the slow definition, that splits over rows and micro-batches at will."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from beichen.data.batch import IGNORED, Batch
from beichen.nn.decoder import Decoder
from beichen.objectives.next_token import next_token
from tests.train.small_runs import random_batch, tiny_decoder


def cut(batch: Batch, sizes: list[int]) -> list[Batch]:
    """The rows of a batch as several batches."""
    tensors = [getattr(batch, name).split(sizes) for name in ("input_ids", "targets", "positions", "first_visible")]
    return [
        Batch(
            input_ids=ids, targets=targets, positions=positions, first_visible=starts,
            target_count=int((targets != IGNORED).sum()), token_count=ids.numel(),
        )
        for ids, targets, positions, starts in zip(*tensors, strict=True)
    ]  # fmt: skip


def gradients(decoder: Decoder, batches: list[Batch]) -> torch.Tensor:
    """Of the mean over all targets of all batches."""
    decoder.zero_grad()
    for batch in batches:
        next_token(decoder, batch).loss_sum.backward()
    count = sum(batch.target_weight for batch in batches)
    return torch.cat([parameter.grad.flatten() for parameter in decoder.parameters() if parameter.grad is not None]) / count


@pytest.mark.parametrize("changes", [{}, {"logit_scale": 0.3}, {"tie_word_embeddings": True}])
def test_equals_the_definition(changes):
    decoder, batch = tiny_decoder(**changes), random_batch(rows=3, tokens=11, seed=1, scored=0.6)
    found = next_token(decoder, batch)
    with torch.no_grad():
        logits = decoder.logits(decoder(batch.input_ids, positions=batch.positions, first_visible=batch.first_visible)).double()
    total = 0.0
    for row in range(3):
        for column in range(11):
            if (target := int(batch.targets[row, column])) != IGNORED:
                total -= float(logits[row, column].log_softmax(-1)[target])
    assert found.target_count == batch.target_count == int((batch.targets != IGNORED).sum())
    assert float(found.loss_sum.detach()) == pytest.approx(total, rel=1e-6)


def test_what_targets_count_multiplies_their_loss():
    decoder, batch = tiny_decoder(), random_batch(rows=2, tokens=9, seed=3, scored=0.7)
    weights = torch.randint(1, 4, (2, 9), generator=torch.Generator().manual_seed(0)).float() / 2
    found = next_token(decoder, replace(batch, weights=weights))
    one_by_one = 0.0
    for row, column in (batch.targets != IGNORED).nonzero().tolist():
        only = torch.full_like(batch.targets, IGNORED)
        only[row, column] = batch.targets[row, column]
        one_by_one += float(weights[row, column] * next_token(decoder, replace(batch, targets=only, target_count=1)).loss_sum.detach())
    assert float(found.loss_sum.detach()) == pytest.approx(one_by_one, rel=1e-6)
    halves = replace(batch, weights=torch.full((2, 9), 0.5))
    assert halves.target_weight == batch.target_count / 2
    torch.testing.assert_close(gradients(decoder, [halves]), gradients(decoder, [batch]))


@pytest.mark.parametrize("seed", range(4))
def test_micro_batches_cannot_change_a_gradient(seed):
    """Rows with very different numbers of targets, cut anywhere: a mean of means would be far off."""
    decoder, rng = tiny_decoder(), random.Random(seed)
    parts = [random_batch(rows=1, tokens=16, seed=seed * 10 + row, scored=rng.choice([0.05, 0.5, 1.0])) for row in range(6)]
    names = ("input_ids", "targets", "positions", "first_visible")
    tensors: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    whole = Batch(
        **tensors,
        target_count=sum(part.target_count for part in parts), token_count=96,
    )  # fmt: skip
    expected = gradients(decoder, [whole])
    for sizes in ([1] * 6, [2, 4], [3, 3], [5, 1]):
        found = gradients(decoder, cut(whole, sizes))
        assert float((found - expected).norm() / expected.norm()) < 1e-6


def test_targets_alone_are_scored_but_every_position_is_seen():
    """A position that nobody scores still shapes what later positions predict."""
    decoder = tiny_decoder()
    batch = random_batch(rows=1, tokens=8, seed=3, scored=1.0, packed=False)
    batch.targets[0, :7] = IGNORED
    last_only = float(next_token(decoder, batch).loss_sum.detach())
    batch.input_ids[0, 2] = (batch.input_ids[0, 2] + 1) % decoder.config.vocab_size
    assert float(next_token(decoder, batch).loss_sum.detach()) != last_only


def test_a_batch_without_targets_is_zero_with_zero_gradients():
    decoder, batch = tiny_decoder(), random_batch(rows=2, tokens=5, seed=4, scored=0.0)
    found = next_token(decoder, batch)
    found.loss_sum.backward()
    assert float(found.loss_sum.detach()) == 0.0 and found.target_count == 0
    assert not any(bool(parameter.grad.any()) for parameter in decoder.parameters() if parameter.grad is not None)
