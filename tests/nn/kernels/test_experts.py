"""The experts' kernel equals torch's operations in float64, value and gradients, for every shape that its tiles meet differently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.experts import mix
from tests import needs

pytestmark = needs.compiled_kernels

SHAPES = [  # tokens, hidden, width, experts, choices
    (1, 9, 7, 3, 2), (7, 16, 24, 4, 2), (33, 70, 50, 5, 3), (64, 33, 64, 2, 1), (50, 128, 200, 40, 4), (200, 96, 65, 3, 3),
]  # fmt: skip
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 6e-3}


def parts(shape: tuple[int, ...], seed: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
    """[x, gate_up, down, weights], chosen, direction of the gradient."""
    tokens, hidden, width, experts, choices = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    tensors = [normal(tokens, hidden), normal(experts, 2 * width, hidden) / hidden**0.5, normal(experts, hidden, width) / width**0.5]
    chosen = torch.rand(tokens, experts, generator=generator).topk(choices).indices
    return [*tensors, torch.rand(tokens, choices, generator=generator)], chosen, normal(tokens, hidden)


def run(function, tensors: list[Tensor], chosen: Tensor, direction: Tensor, dtype: torch.dtype) -> list[Tensor]:
    x, gate_up, down, weights = (tensor.detach().to(dtype).requires_grad_() for tensor in tensors)
    if dtype == torch.bfloat16:
        weights = tensors[3].clone().requires_grad_()
    out = function(x, gate_up, down, chosen, weights)
    return [out.detach(), *torch.autograd.grad(out, (x, gate_up, down, weights), direction.to(dtype))]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_torch_in_float64(dtype, shape, threads):
    tensors, chosen, direction = parts(shape)
    tensors = [tensor.to(dtype).float() for tensor in tensors[:3]] + tensors[3:]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = run(kernels.experts, tensors, chosen, direction.to(dtype).float(), dtype)
    finally:
        torch.set_num_threads(before)
    expected = run(mix, tensors, chosen, direction.to(dtype).double(), torch.float64)
    for ours, exact in zip(found, expected, strict=True):
        assert float((ours.double() - exact).norm() / exact.norm()) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_experts_without_tokens_get_zeros_and_the_number_of_threads_no_say(dtype):
    tensors, chosen, direction = parts((20, 40, 24, 6, 2))
    chosen = torch.tensor([[1, 4]] * 20)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(run(kernels.experts, tensors, chosen, direction, dtype))
    finally:
        torch.set_num_threads(before)
    for gradient in results[0][2:4]:
        assert [bool(one.any()) for one in gradient] == [False, True, False, False, True, False]
    assert all(torch.equal(first, other) for result in results[1:] for first, other in zip(results[0], result, strict=True))


def test_what_does_not_fit_is_refused():
    (x, gate_up, down, weights), chosen, _ = parts((7, 16, 24, 4, 2))
    with pytest.raises(ValueError, match="do not fit"):
        kernels.experts(x, gate_up[:, :-1].contiguous(), down, chosen, weights)
    with pytest.raises(TypeError, match="contiguous"):
        kernels.experts(x, gate_up.bfloat16(), down, chosen, weights)
    assert not kernels.can_run_experts(x.double(), gate_up.double(), down.double())
