"""One matrix for each group of rows equals a loop over the groups, gradients too, for every way of computing it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from beichen.nn.grouped import grouped_linear

TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}


def looped(x: Tensor, weight: Tensor, ends: list[int]) -> Tensor:
    starts = [0, *ends[:-1]]
    return torch.cat([x[start:end] @ matrix.T for start, end, matrix in zip(starts, ends, weight, strict=True)])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("inner", "outer"), [(16, 24), (7, 5)])  # widths that torch's grouped product takes, and others
@pytest.mark.parametrize("ends", [[3, 8, 9], [0, 0, 9], [9, 9, 9], [4, 4, 9], [0, 0, 0]])
def test_equals_a_loop(dtype, inner, outer, ends):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ends[-1], inner, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(3, outer, inner, generator=generator).to(dtype).requires_grad_()
    direction = torch.randn(ends[-1], outer, generator=generator).to(dtype)
    results = []
    for out in (grouped_linear(x, weight, torch.tensor(ends, dtype=torch.int32)), looped(x, weight, ends)):
        gradients = torch.autograd.grad(out, (x, weight), direction)
        results.append([out.detach(), *gradients])
    for found, expected in zip(*results, strict=True):
        assert found.shape == expected.shape and found.dtype == dtype
        torch.testing.assert_close(found, expected, atol=TOLERANCES[dtype] * 5, rtol=TOLERANCES[dtype])


def test_a_gradient_that_is_one_number_spread_out_is_taken():
    """``sum().backward()`` gives a gradient without storage of its own."""
    x, weight = torch.randn(6, 16, requires_grad=True), torch.randn(2, 8, 16, requires_grad=True)
    grouped_linear(x, weight, torch.tensor([2, 6], dtype=torch.int32)).sum().backward()
    assert x.grad is not None and weight.grad is not None
    torch.testing.assert_close(weight.grad[0], x.detach()[:2].sum(0).expand(8, 16))
