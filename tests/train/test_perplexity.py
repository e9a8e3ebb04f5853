"""Perplexity by length equals the slow way, position by position, and every length scores the same text."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from beichen.errors import DataError
from beichen.train.perplexity import perplexity_by_length
from tests.train.small_runs import tiny_decoder

IDS = torch.randint(0, 30, (100,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("tokens_at_once", [1, 20, 8192])
def test_it_is_the_mean_over_windows(tokens_at_once):
    decoder = tiny_decoder().train()
    found = perplexity_by_length(decoder, IDS, [4, 12, 24], tokens_at_once=tokens_at_once)
    assert decoder.training
    decoder.eval()
    for length, value in found.items():
        losses = []
        for begin in range(0, 96, length):
            logits = decoder.logits(decoder(torch.tensor([IDS[begin : begin + length]])))[0].detach()
            losses.append(F.cross_entropy(logits, torch.tensor(IDS[begin + 1 : begin + length + 1]), reduction="none"))
        assert value == pytest.approx(math.exp(float(torch.cat(losses).mean())), rel=1e-4)


def test_too_little_text_and_lengths_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="one window of 128 needs 129"):
        perplexity_by_length(tiny_decoder(), IDS, [64, 128])
    with pytest.raises(DataError, match="each must divide the longest"):
        perplexity_by_length(tiny_decoder(), IDS, [5, 12])
