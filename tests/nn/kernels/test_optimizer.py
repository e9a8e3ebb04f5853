"""The fused steps equal their formulas in torch, over several steps, for bf16 and float32 gradients."""

import math

import pytest
import torch
from torch import Tensor

from beichen.nn import kernels
from tests import needs

pytestmark = needs.compiled_kernels


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(3,), (64, 33), (300, 200)])
def test_adamw_equals_torch(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    expected = torch.randn(shape).requires_grad_()
    master, parameter = expected.detach().clone(), expected.detach().bfloat16()
    first, second = torch.zeros(shape), torch.zeros(shape)
    peer = torch.optim.AdamW([expected], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for step in range(1, 5):
        gradient = torch.randn(shape).to(dtype)
        kernels.adamw_step(
            parameter, gradient, master, first, second, learning_rate=0.01, beta1=0.9, beta2=0.95, epsilon=1e-8,
            weight_decay=0.1, step=step, gradient_scale=0.5,
        )  # fmt: skip
        expected.grad = gradient.float() * 0.5
        peer.step()
        torch.testing.assert_close(master, expected.detach(), rtol=1e-5, atol=1e-6)
        assert torch.equal(parameter, master.bfloat16())


def test_adamw_without_a_bf16_copy() -> None:
    master, first, second = torch.ones(20), torch.zeros(20), torch.zeros(20)
    kernels.adamw_step(
        None, torch.ones(20), master, first, second, learning_rate=0.1, beta1=0.9, beta2=0.9, epsilon=0.0, weight_decay=0.0, step=1
    )
    torch.testing.assert_close(master, torch.full((20,), 0.9))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_muon_halves_equal_their_formulas(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    gradient, momentum, master = torch.randn(70, 30).to(dtype), torch.randn(70, 30), torch.randn(70, 30)
    direction, parameter, update = torch.empty(70, 30).bfloat16(), torch.empty(70, 30).bfloat16(), torch.randn(70, 30).bfloat16()
    scaled = gradient.float() * 0.3
    new_momentum = momentum.lerp(scaled, 1 - 0.95)
    wanted = scaled.lerp(new_momentum, 0.95)
    kernels.muon_direction(gradient, momentum, direction, factor=0.95, gradient_scale=0.3)
    torch.testing.assert_close(momentum, new_momentum, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(direction.float(), wanted, rtol=0.005, atol=1e-6)
    expected = master * 0.99 - 0.2 * update.float()
    kernels.muon_apply(parameter, update, master, rate=0.2, decay=0.01)
    torch.testing.assert_close(master, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(parameter, master.bfloat16())


def test_sum_of_squares() -> None:
    torch.manual_seed(2)
    tensors: list[Tensor] = [torch.randn(5), torch.randn(300, 301).bfloat16(), torch.randn(1 << 14), torch.zeros(0)]
    wanted = math.fsum(float(t.double().square().sum()) for t in tensors)
    assert math.isclose(kernels.sum_of_squares(tensors), wanted, rel_tol=1e-5)
    assert kernels.sum_of_squares(tensors) == kernels.sum_of_squares(tensors)


def test_sizes_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match="one size"):
        kernels.muon_apply(None, torch.zeros(4).bfloat16(), torch.zeros(5), rate=1.0)
