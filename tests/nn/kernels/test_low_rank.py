"""The kernel for few rows adds what the matrices written out give, to its own columns alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.nn import kernels
from beichen.nn.linear import Linear
from beichen.nn.low_rank import LowRank, Part
from tests import needs

pytestmark = needs.compiled_kernels


@settings(max_examples=40, deadline=None)
@given(
    inner=st.integers(1, 300), widths=st.lists(st.integers(1, 70), min_size=1, max_size=3), gap=st.integers(0, 9),
    ranks=st.lists(st.integers(1, 40), min_size=3, max_size=3), rows=st.integers(1, 64), lengths=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
def test_it_adds_what_the_matrices_give(inner, widths, ranks, gap, rows, lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    parts, begin = [], gap
    for width, rank in zip(widths, ranks, strict=False):
        parts.append(Part(begin, begin + width, rank=rank, scale=0.5 + begin / 50))
        begin += width + gap
    adapter = LowRank(inner, begin, parts, magnitudes=lengths, dtype=torch.bfloat16).requires_grad_(False)
    for matrix in (adapter.a, *adapter.b):
        matrix.normal_(generator=generator)
    x = torch.randn(rows, inner, generator=generator).bfloat16()
    out = torch.randn(rows, begin, generator=generator).bfloat16()
    exact = out.double()
    for number, part in enumerate(parts):
        through = (x.double() @ adapter.a[adapter.columns_of(number)].double().T) @ adapter.b[number].double().T
        exact[:, part.begin : part.end] += part.scale * through
    layer = Linear(inner, begin, bias=lengths).bfloat16()
    torch.nn.init.normal_(layer.weight, generator=generator)
    untouched = out.clone()
    for magnitude in adapter.magnitudes or ():
        magnitude.uniform_(inner, 2 * inner, generator=generator)
    adapter.settle(layer)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias, generator=generator)
        factors, bias = adapter.row_factors(layer.weight).double(), layer.bias.double()
        exact = bias + factors * (exact - bias)
    found = adapter(x, out, layer)
    assert found is out
    size = exact.abs() + inner**0.5 * max(ranks) ** 0.5 * 3
    assert bool(((found.double() - exact).abs() <= 0.02 * size).all())
    outside = torch.ones(begin, dtype=torch.bool)
    for part in parts:
        outside[part.begin : part.end] = False
    assert torch.equal(found[:, outside], untouched[:, outside])
    tighter = (found.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert tighter < 2**-7


def test_what_does_not_fit_is_refused():
    update = kernels.FewRowUpdate(torch.zeros(2, 8, dtype=torch.bfloat16), [torch.zeros(5, 2, dtype=torch.bfloat16)], [3], [1.0])
    with pytest.raises(ValueError, match="do not fit"):
        update.add(torch.zeros(1, 8, dtype=torch.bfloat16), torch.zeros(1, 7, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="does not fit ranks"):
        kernels.FewRowUpdate(torch.zeros(3, 8, dtype=torch.bfloat16), [torch.zeros(5, 2, dtype=torch.bfloat16)], [3], [1.0])
