"""The loop that the experts are timed against is the same model: equal losses, equal gradients."""

from __future__ import annotations

import torch

from bench.experts_step import CHOICES, EXPERTS, LAYERS, LoopedExperts, Shape, densified, looped, step_of
from bench.workload import random_batch


def test_the_loop_computes_the_same():
    shape = Shape(16, 8, 2, 12)
    mine, theirs = shape.decoder(torch.float32), looped(shape.decoder(torch.float32))
    ids = random_batch(mine.config, 0, rows=2, tokens=12)
    assert abs(step_of(mine, ids)() - step_of(theirs, ids)()) < 1e-6
    x, chosen = torch.randn(2, 5, 16), torch.tensor([[0, 3], [14, 3], [7, 1], [2, 0], [3, 5]] * 2)
    weights = torch.rand(10, 2)
    ours, loop = (decoder.get_submodule("layers.1.feed_forward.experts") for decoder in (mine, theirs))
    assert isinstance(loop, LoopedExperts)
    results = []
    for module in (ours, loop):
        inputs = x.flatten(0, 1).clone().requires_grad_()
        out = module(inputs, chosen, weights)
        out.square().sum().backward()
        results.append((out.detach(), inputs.grad))
    for found, expected in zip(*results, strict=True):
        assert found is not None and expected is not None
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_the_dense_model_has_the_parameters_that_a_token_meets():
    shape = Shape(16, 8, 2, 12)
    mixed, dense = shape.decoder(torch.float32), densified(shape.decoder(torch.float32))
    width, mixtures = 3 * 16 * 8, LAYERS - 1
    idle_and_router = mixtures * ((EXPERTS - CHOICES) * width + EXPERTS * 16)
    assert sum(one.numel() for one in dense.parameters()) == sum(one.numel() for one in mixed.parameters()) - idle_and_router
    assert 0 < step_of(dense, random_batch(dense.config, 0, rows=2, tokens=12))() < 20
