"""Vectors of texts: equal to one plain pass over each text, whatever the company and the cuts."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F

from beichen.inference.embedding import embed
from tests.inference.small_models import small_decoder


def vectors_and_parts(decoder, texts, part_tokens):
    work, rests = embed(decoder, texts, part_tokens=part_tokens), []
    while True:
        try:
            rests.append(next(work))
        except StopIteration as end:
            return end.value, rests


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("part_tokens", [7, 40, 1000])
def test_a_vector_is_the_mean_of_one_plain_pass(seed, part_tokens):
    """Also beyond the trained length, where the rope rule depends on the length of each text."""
    rng = random.Random(seed)
    decoder = small_decoder(seed)
    texts = [[rng.randrange(320) for _ in range(rng.choice([1, 3, 30, 65, 150]))] for _ in range(rng.randrange(1, 12))]
    found, _ = vectors_and_parts(decoder, texts, part_tokens)
    assert found.shape == (len(texts), 32) and found.dtype == torch.float32
    with torch.inference_mode():
        for text, vector in zip(texts, found, strict=True):
            plain = F.normalize(decoder(torch.tensor([text]))[0].mean(0), dim=0)
            torch.testing.assert_close(vector, plain, atol=1e-5, rtol=0)
    assert vector.norm().item() == pytest.approx(1, abs=1e-5)


def test_a_part_is_bounded_and_only_a_long_text_keeps_others_from_going_first(monkeypatch):
    decoder = small_decoder()
    sizes: list[int] = []
    forward = decoder.forward

    def measured(ids, **named):
        sizes.append(ids.numel())
        return forward(ids, **named)

    monkeypatch.setattr(decoder, "forward", measured)
    texts = [[1] * length for length in (25, 2, 3, 9, 8, 1, 10)]
    _, rests = vectors_and_parts(decoder, texts, 10)
    assert max(sizes) <= 10 and len(rests) == len(sizes) and sum(sizes) >= sum(map(len, texts))
    assert rests.count(False) == 2 and rests[-1]  # 25 tokens in three parts
