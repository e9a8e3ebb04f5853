"""Quantized linear layers: errors within the stated bounds, products of what was dequantized, gradients for the input, memory freed."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.errors import CheckpointError
from beichen.nn.experts import StackedLinear
from beichen.nn.kernels.quantized import NF4_BLOCK
from beichen.nn.linear import Linear
from beichen.nn.quantized import NF4, QuantizedLinear, QuantizedMatrix, QuantizedStackedLinear, kind_of, quantize
from tests.train.small_runs import tiny_decoder

KINDS = ["int8", "nf4"]


def random_weight(*shape: int, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    """Rows of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.exp(spread * torch.randn((*shape[:-1], 1), generator=generator))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 150), seed=st.integers(0, 1000), spread=st.floats(0.0, 4.0))
def test_errors_stay_within_the_bounds(rows, columns, seed, spread):
    weight = random_weight(rows, columns, seed=seed, spread=spread)
    error = (QuantizedMatrix(weight, "int8").dequantized() - weight).abs()
    assert bool((error <= weight.abs().amax(-1, keepdim=True) / 254 * (1 + 1e-5)).all())
    error = (QuantizedMatrix(weight, "nf4").dequantized() - weight).abs()
    for block, faults in zip(weight.split(NF4_BLOCK, dim=1), error.split(NF4_BLOCK, dim=1), strict=True):
        assert bool((faults <= 0.152 * block.abs().amax(-1, keepdim=True) + 2**-25).all())


def test_nf4_is_what_its_paper_says():
    """Sixteen values, zero and both ends among them; what lies on one of them is kept to the bit."""
    assert len(NF4) == 16 and sorted(NF4) == list(NF4) and NF4[0] == -1.0 and NF4[7] == 0.0 and NF4[15] == 1.0
    kept = torch.tensor([NF4]) * 4.0
    assert torch.equal(QuantizedMatrix(kept, "nf4").dequantized(), kept)
    assert float(torch.tensor(NF4).diff().max()) / 2 < 0.152


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros_and_what_is_not_finite_is_refused(kind):
    assert torch.equal(QuantizedMatrix(torch.zeros(3, 70), kind).dequantized(), torch.zeros(3, 70))
    with pytest.raises(CheckpointError, match="not finite"):
        QuantizedMatrix(torch.tensor([[1.0, float("inf")]]), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_multiplies_by_what_it_holds(kind, dtype):
    linear = Linear(70, 9, bias=True)
    linear.load_state_dict({"weight": random_weight(9, 70, spread=1.0), "bias": torch.randn(9)})
    quantized = QuantizedLinear(linear.to(dtype), kind)
    x = torch.randn(2, 4, 70).to(dtype).requires_grad_()
    expected = torch.nn.functional.linear(x, quantized.full_weight().to(dtype), quantized.bias)
    direction = torch.randn(2, 4, 9).to(dtype)
    (gradient,) = torch.autograd.grad(expected, x, direction)
    found = quantized(x)
    near, share = (1e-5, 1e-5) if dtype == torch.float32 else (0.06, 0.02)
    torch.testing.assert_close(found, expected, atol=near, rtol=share)
    torch.testing.assert_close(torch.autograd.grad(found, x, direction)[0], gradient, atol=near, rtol=share)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_is_its_experts_one_by_one(kind):
    stacked = StackedLinear(3, 16, 8, bias=False)
    stacked.weight.data.copy_(random_weight(3, 8, 16, spread=1.0))
    quantized = QuantizedStackedLinear(stacked, kind)
    x, ends = torch.randn(7, 16, requires_grad=True), torch.tensor([2, 2, 7], dtype=torch.int32)
    expected = torch.cat([x[:2] @ quantized.full_weight()[0].T, x[2:] @ quantized.full_weight()[2].T])
    direction = torch.randn(7, 8)
    (gradient,) = torch.autograd.grad(expected, x, direction)
    found = quantized(x, ends)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(found, x, direction)[0], gradient, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_gone_and_their_memory_with_them(kind):
    decoder = tiny_decoder(hidden_size=64, intermediate_size=128, head_dim=16)
    old = [weakref.ref(module.weight) for module in decoder.modules() if isinstance(module, Linear)]
    linear = sum(parameter.numel() for name, parameter in decoder.named_parameters() if "layers" in name and parameter.ndim == 2)
    quantize(decoder, kind)
    gc.collect()
    assert kind_of(decoder) == kind and len(old) == 8 and all(reference() is None for reference in old)
    held = sum(buffer.numel() * buffer.element_size() for buffer in decoder.buffers() if buffer.dtype != torch.float64)
    assert held < linear * (1.1 if kind == "int8" else 0.56) + 4096
    assert decoder(torch.zeros(1, 4, dtype=torch.int64)).isfinite().all()


def test_formats_stay_when_the_rest_changes_its_own():
    matrix = QuantizedMatrix(random_weight(4, 64), "nf4").to(torch.bfloat16)
    assert matrix.scales.dtype == torch.float16 and matrix.codes.dtype == torch.uint8
