"""RMSNorm and the addition before it equal float64 references, gradients too."""

import pytest
import torch
from torch import Tensor

from beichen.nn import kernels
from tests import needs

pytestmark = needs.compiled_kernels

SHAPES = [(3, 5, 64), (7, 100), (1, 10), (300, 512), (2, 33, 17)]


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted.detach().double()).norm() / wanted.detach().double().norm())


def reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm_equals_reference(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(shape).bfloat16().requires_grad_(), torch.randn(shape[-1]).bfloat16().requires_grad_()]
    wide = [t.detach().double().requires_grad_() for t in inputs]
    gradient = torch.randn(shape).bfloat16()
    out, expected = kernels.rms_norm(inputs[0], inputs[1], 1e-5), reference(wide[0], wide[1], 1e-5)
    out.backward(gradient)
    expected.backward(gradient.double())
    for found, wanted in [(out, expected), *((a.grad, b.grad) for a, b in zip(inputs, wide, strict=True))]:
        assert found is not None and wanted is not None and error(found, wanted) < 0.006


@pytest.mark.parametrize("shape", SHAPES)
def test_add_rms_norm_equals_reference(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(size).bfloat16().requires_grad_() for size in (shape, shape, shape[-1:])]
    wide = [t.detach().double().requires_grad_() for t in inputs]
    gradients = [torch.randn(shape).bfloat16() for _ in range(2)]
    outs = kernels.add_rms_norm(inputs[0], inputs[1], inputs[2], 1e-5)
    total = wide[0] + wide[1]
    expected = (total, reference(total, wide[2], 1e-5))
    torch.autograd.backward(outs, gradients)
    torch.autograd.backward(expected, [g.double() for g in gradients])
    pairs = [*zip(outs, expected, strict=True), *((a.grad, b.grad) for a, b in zip(inputs, wide, strict=True))]
    for found, wanted in pairs:
        assert found is not None and wanted is not None and error(found, wanted) < 0.006


def test_only_the_sum_used_passes_its_gradient_on() -> None:
    residual, x, weight = (torch.randn(4, 8).bfloat16().requires_grad_() for _ in range(3))
    total, _ = kernels.add_rms_norm(residual, x, weight[0].detach(), 1e-5)
    total.backward(torch.ones_like(total))
    assert residual.grad is not None and x.grad is not None and bool((residual.grad == 1).all() and (x.grad == 1).all())


def test_same_rounding_as_the_published_models() -> None:
    """The quotient is rounded to bf16, then multiplied: bit for bit, but for rows whose rms rounds differently."""
    torch.manual_seed(0)
    x, weight = torch.randn(64, 256).bfloat16(), torch.randn(256).bfloat16()
    wide = x.float()
    published = weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).bfloat16()
    assert float((kernels.rms_norm(x, weight, 1e-5) == published).float().mean()) > 0.999
