"""The linear layer is x W^T + b for any number of rows, with and without gradients, and a weight's gradient is exact."""

from __future__ import annotations

import pytest
import torch

from beichen.nn.linear import Linear, linear


def sample(rows: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(rows))
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((*rows, 40), (24, 40), (24,)))
    return x.to(dtype), weight.to(dtype), bias.to(dtype)


@pytest.mark.parametrize("rows", [(1,), (3, 1), (2, 5), (100,), (4, 50)])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_equals_its_definition(rows, with_bias, dtype, tolerance):
    x, weight, bias = sample(rows, dtype)
    expected = x.double() @ weight.double().T + (bias.double() if with_bias else 0.0)
    given_bias = bias if with_bias else None
    with torch.no_grad():
        quiet = linear(x, weight, given_bias)
    module = Linear(40, 24, bias=with_bias).to(dtype)
    module.load_state_dict({"weight": weight} | ({"bias": bias} if with_bias else {}))
    for found in (quiet, module(x)):
        assert found.dtype == dtype and found.shape == (*rows, 24)
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=10 * tolerance)


def test_gradients_equal_their_definition():
    x, weight, bias = (tensor.requires_grad_() for tensor in sample((2, 5), torch.float32))
    wanted = torch.randn(2, 5, 24)
    (linear(x, weight, bias) * wanted).sum().backward()
    assert x.grad is not None and weight.grad is not None and bias.grad is not None
    flat = wanted.flatten(0, 1)
    torch.testing.assert_close(x.grad, wanted @ weight.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weight.grad, flat.T @ x.detach().flatten(0, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bias.grad, flat.sum(0), atol=1e-5, rtol=1e-5)


def test_parameters_are_named_as_checkpoints_expect():
    assert list(Linear(3, 2, bias=True).state_dict()) == ["weight", "bias"]
    assert {name: tuple(value.shape) for name, value in Linear(3, 2, bias=False).state_dict().items()} == {"weight": (2, 3)}
