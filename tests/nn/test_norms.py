"""Norms equal their definition in float64, vector by vector, and round exactly where the originals round."""

from __future__ import annotations

import pytest
import torch

from beichen.nn import kernels
from beichen.nn.norms import Norm, rms_norm
from tests import needs
from tests.nn.slow_decoder import slow_norm


def random_norm(kind, size: int = 24, eps: float = 1e-5) -> Norm:
    norm = Norm(size, kind=kind, eps=eps)
    generator = torch.Generator().manual_seed(size)
    for parameter in norm.parameters():
        parameter.data.normal_(1.0, 0.5, generator=generator)
    return norm


@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("eps", [1e-8, 1e-5, 0.1])
@pytest.mark.parametrize("size", [1, 24, 100])
def test_equals_its_definition(kind, eps, size):
    norm = random_norm(kind, size, eps)
    x = torch.randn(3, 5, size, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 5)[:, None]
    bias = None if norm.bias is None else norm.bias.detach().double()
    expected = slow_norm(x.double(), norm.weight.detach().double(), bias, eps)
    torch.testing.assert_close(norm(x).double(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_gradients_equal_finite_differences_of_the_definition(kind):
    norm = random_norm(kind, 6)
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(2)).requires_grad_()
    direction, wanted = torch.randn(2, 6), torch.randn(2, 6)
    (norm(x) * wanted).sum().backward()
    bias = None if norm.bias is None else norm.bias.detach().double()
    values = [
        float((slow_norm(x.detach().double() + step * direction.double(), norm.weight.detach().double(), bias, 1e-5) * wanted).sum())
        for step in (-1e-4, 1e-4)
    ]
    assert x.grad is not None
    assert float((x.grad * direction).sum()) == pytest.approx((values[1] - values[0]) / 2e-4, rel=1e-3, abs=1e-4)


def test_a_bf16_quotient_is_rounded_before_the_weight():
    """As the published codes do: their golden logits depend on it. A product rounded once would differ here and there."""
    x = torch.randn(200, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    weight = (1 + torch.randn(64, generator=torch.Generator().manual_seed(4)) / 3).bfloat16()
    wide = x.float()
    quotient = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    twice, once = weight * quotient.bfloat16(), (weight.float() * quotient).bfloat16()
    found = rms_norm(x, weight, 1e-5)
    assert found.dtype == torch.bfloat16
    assert (found == twice).float().mean() > 0.995  # rsqrt and 1 / sqrt differ in the last bit of float32
    assert not torch.equal(twice, once)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_add_norm_is_addition_then_norm(kind, dtype):
    norm = random_norm(kind).to(dtype)
    residual, update = torch.randn(2, 4, 7, 24, generator=torch.Generator().manual_seed(5)).to(dtype).unbind(0)
    with kernels.switched_off():
        total, normed = norm.add_norm(residual, update)
        assert torch.equal(total, residual + update) and torch.equal(normed, norm(residual + update))
        untouched, alone = norm.add_norm(residual, None)
        assert untouched is residual and torch.equal(alone, norm(residual))


@needs.compiled_kernels
def test_kernels_and_torch_agree():
    """bf16 has 8 bits: one rounding apart is 2**-8 of the value."""
    norm = random_norm("rms", 96).bfloat16()
    residual, update = torch.randn(2, 50, 96, generator=torch.Generator().manual_seed(6)).bfloat16().unbind(0)
    fast = (norm(residual), *norm.add_norm(residual, update))
    with kernels.switched_off():
        slow = (norm(residual), *norm.add_norm(residual, update))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=2**-7, atol=1e-6)
