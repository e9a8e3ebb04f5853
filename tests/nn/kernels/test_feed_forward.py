"""SwiGLU equals a float64 reference, its gradient too."""

import pytest
import torch
import torch.nn.functional as F

from beichen.nn import kernels
from tests import needs

pytestmark = needs.compiled_kernels


@pytest.mark.parametrize("size", [1, 16, 100, 352, 1408])
def test_swiglu_equals_reference(size: int) -> None:
    torch.manual_seed(size)
    gate_up = (torch.randn(3, 4, 2 * size) * 3).bfloat16().requires_grad_()
    wide = gate_up.detach().double().requires_grad_()
    gradient = torch.randn(3, 4, size).bfloat16()
    out = kernels.swiglu(gate_up)
    gate, up = wide.chunk(2, -1)
    expected = F.silu(gate) * up
    out.backward(gradient)
    expected.backward(gradient.double())
    assert gate_up.grad is not None and wide.grad is not None
    torch.testing.assert_close(out.double(), expected, rtol=0.005, atol=1e-5)
    torch.testing.assert_close(gate_up.grad.double(), wide.grad, rtol=0.005, atol=1e-4)


def test_extreme_gates_stay_finite() -> None:
    gate_up = torch.tensor([[-1e30, -100.0, 100.0, 1e30, 1.0, 1.0, 1.0, 1.0]]).bfloat16().requires_grad_()
    out = kernels.swiglu(gate_up)
    out.sum().backward()
    assert gate_up.grad is not None and bool(out.isfinite().all() and gate_up.grad.isfinite().all())
