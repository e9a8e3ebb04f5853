"""Products with codes equal products with what they stand for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.nn import kernels, quantized
from beichen.nn.linear import Linear
from beichen.nn.quantized import KINDS, NF4, Kind, QuantizedLinear, QuantizedMatrix
from tests import needs

pytestmark = needs.compiled_kernels

NEAR = 2.0**-13  # of the lengths of both vectors; a row rounded to bf16 alone is off by up to 2**-9


def layer_of(inner: int, outer: int, kind: Kind, *, bias: bool = True, seed: int = 0) -> QuantizedLinear:
    """Rows of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    linear = Linear(inner, outer, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(outer, inner, generator=generator) * torch.randn(outer, 1, generator=generator).exp())
        if linear.bias is not None:
            linear.bias.normal_(generator=generator)
    return QuantizedLinear(linear.bfloat16(), kind)


def check(layer: QuantizedLinear, x: torch.Tensor) -> None:
    weight = layer.full_weight().double()
    exact = x.double() @ weight.T + (0.0 if layer.bias is None else layer.bias.double())
    found = kernels.few_row_quantized(x, layer.matrix.as_codes(), layer.bias, dtype=torch.float32)
    lengths = x.double().norm(dim=-1, keepdim=True) * weight.norm(dim=1) + exact.abs()
    assert bool(((found - exact).abs() <= NEAR * lengths + 1e-30).all())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(inner=st.integers(1, 700), outer=st.integers(1, 70), rows=st.integers(1, 70), bias=st.booleans(), seed=st.integers(0, 1000))
def test_any_shape(kind, inner, outer, rows, bias, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, inner, generator=generator) * torch.randn(rows, inner, generator=generator).exp()
    check(layer_of(inner, outer, kind, bias=bias, seed=seed), x.bfloat16())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(inner=st.integers(1, 300), lead=st.lists(st.integers(1, 9), min_size=1, max_size=2), seed=st.integers(0, 1000))
def test_dequantizing_gives_the_bits_that_torch_gives(kind, inner, lead, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(*lead, inner, generator=generator) * (8 * torch.randn(*lead, 1, generator=generator)).exp().clamp(max=1e4)
    matrix = QuantizedMatrix(weight, kind)
    found = matrix.dequantized(torch.bfloat16)
    with kernels.switched_off():
        assert torch.equal(found, matrix.dequantized(torch.bfloat16))


@settings(max_examples=30, deadline=None)
@given(inner=st.integers(1, 300), rows=st.integers(1, 9), seed=st.integers(0, 1000))
def test_codes_are_those_that_torch_finds(inner, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, inner, generator=generator) * (8 * torch.randn(rows, 1, generator=generator)).exp().clamp(max=1e4)
    values = torch.tensor(NF4)
    weight[0, : min(inner, 15)] = ((values[1:] + values[:-1]) / 2)[:inner]  # on the borders themselves
    found = QuantizedMatrix(weight, "nf4")
    with kernels.switched_off():
        expected = QuantizedMatrix(weight, "nf4")
    assert torch.equal(found.codes, expected.codes) and torch.equal(found.scales, expected.scales)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 4, 9, 19])
def test_long_rows_whose_products_all_are_as_large_as_they_can_be(kind, rows):
    """Sums in whole numbers must not leave 32 bits."""
    linear = Linear(20_000, 3, bias=False)
    linear.load_state_dict({"weight": torch.ones(3, 20_000)})
    check(QuantizedLinear(linear.bfloat16(), kind), torch.full((rows, 20_000), 3.0, dtype=torch.bfloat16))


@pytest.mark.parametrize("kind", KINDS)
def test_many_long_rows_are_taken_a_part_at_a_time(kind):
    """As many as stay in the cache: of this length 32."""
    check(layer_of(5000, 37, kind), torch.randn(77, 5000, generator=torch.Generator().manual_seed(0)).bfloat16())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(inner=st.integers(1, 300), outer=st.integers(1, 70), rows=st.integers(1, 70), seed=st.integers(0, 1000))
def test_bfloat16_results_are_the_float32_ones_rounded(kind, inner, outer, rows, seed):
    layer = layer_of(inner, outer, kind, seed=seed)
    x = torch.randn(rows, inner, generator=torch.Generator().manual_seed(seed)).bfloat16()
    wide, narrow = (
        kernels.few_row_quantized(x, layer.matrix.as_codes(), layer.bias, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    assert torch.equal(wide.bfloat16(), narrow)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(inner=st.integers(1, 100), outer=st.integers(1, 70), step=st.integers(1, 80), seed=st.integers(0, 1000))
def test_a_product_of_many_rows_takes_the_matrix_a_part_at_a_time(kind, inner, outer, step, seed):
    matrix = layer_of(inner, outer, kind, seed=seed).matrix
    x = torch.randn(2, 3, inner, generator=torch.Generator().manual_seed(seed)).bfloat16()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantized, "AT_ONCE", step * inner)
        found = matrix.times(x)
    torch.testing.assert_close(found, x @ matrix.dequantized(torch.bfloat16).T)


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_far_above_the_others(kind):
    x = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
    x[:, 7] = 1e4
    check(layer_of(512, 40, kind), x.bfloat16())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 5])
def test_zeros_and_what_is_not_finite(kind, rows):
    layer = layer_of(100, 20, kind, bias=False)
    x = torch.zeros(rows, 100, dtype=torch.bfloat16)
    assert torch.equal(layer(x), torch.zeros(rows, 20, dtype=torch.bfloat16))
    for value in (float("nan"), float("inf"), float("-inf")):
        x[0, 3] = value
        out = layer(x)
        assert bool(out[0].isnan().all()) and torch.equal(out[1:], torch.zeros(rows - 1, 20, dtype=torch.bfloat16))


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_another_shape_are_refused(kind):
    codes = layer_of(100, 20, kind).matrix.as_codes()
    with pytest.raises(ValueError, match="do not fit"):
        kernels.few_row_quantized(torch.zeros(1, 99, dtype=torch.bfloat16), codes)
    with pytest.raises(ValueError, match="are no"):
        kernels.Codes(codes.kind, codes.codes, codes.scales, torch.Size((20, 300)))
