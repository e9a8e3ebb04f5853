"""Low-rank updates: the fast path equals the matrices written out, DoRA keeps its lengths, and an update begins as none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.nn.experts import Experts, StackedLinear
from beichen.nn.grouped import group_of_rows
from beichen.nn.linear import Linear
from beichen.nn.low_rank import LowRank, Part

PARTS = [Part(2, 9, rank=3, scale=0.5), Part(9, 12, rank=2, scale=2.0)]  # two adapters, rows before and after them untouched


def adapter_of(*, out: int = 14, inner: int = 10, experts: int | None = None, begun: bool = True, **settings: Any) -> LowRank:
    generator = torch.Generator().manual_seed(0)
    adapter = LowRank(inner, out, PARTS, experts=experts, **settings)
    with torch.no_grad():
        adapter.a.normal_(generator=generator)
        for b in adapter.b:
            if begun:
                b.normal_(generator=generator)
    return adapter


def linear_of(*, bias: bool = True) -> Linear:
    linear = Linear(10, 14, bias=bias)
    for parameter in linear.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return linear


def written_out(weight: Tensor, adapter: LowRank) -> Tensor:
    """W + scale B A, part by part, the rows then brought to their magnitudes."""
    rows = [row.clone() for row in weight]
    for number, part in enumerate(adapter.parts):
        a, b = adapter.a[adapter.columns_of(number)], adapter.b[number]
        for row in range(part.begin, part.end):
            moved = rows[row] + part.scale * b[row - part.begin] @ a
            if adapter.magnitudes is not None:
                moved = moved * adapter.magnitudes[number][row - part.begin] / moved.detach().norm()
            rows[row] = moved
    return torch.stack(rows)


@pytest.mark.parametrize("magnitudes", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_with_adapters_is_one_with_the_matrix_written_out(magnitudes, bias):
    """Value and every gradient; DoRA's norm is a constant for them, as in its paper."""
    linear, adapter = linear_of(bias=bias), adapter_of(magnitudes=magnitudes)
    if adapter.magnitudes is not None:
        for magnitude in adapter.magnitudes:
            torch.nn.init.uniform_(magnitude, 0.5, 2.0, generator=torch.Generator().manual_seed(2))
    x = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(3), requires_grad=True)
    direction = torch.randn(2, 5, 14, generator=torch.Generator().manual_seed(4))
    expected = torch.nn.functional.linear(x, written_out(linear.weight, adapter), linear.bias)
    sought = [x, *adapter.parameters()]
    gradients = torch.autograd.grad(expected, sought, direction)
    linear.adapter = adapter
    found = linear(x)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    for one, other in zip(torch.autograd.grad(found, sought, direction), gradients, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(adapter.folded(linear.weight), written_out(linear.weight, adapter), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("magnitudes", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_begins_as_none(magnitudes, dtype):
    """To the bit, also with an A of a narrow format."""
    linear = linear_of().to(dtype)
    x = torch.randn(3, 10).to(dtype)
    before = linear(x)
    adapter = adapter_of(begun=False, magnitudes=magnitudes, dtype=dtype)
    adapter.begin_at(linear.weight)
    linear.adapter = adapter
    assert torch.equal(linear(x), before)


def test_dropout_leaves_the_frozen_part_alone():
    linear, x = linear_of(), torch.randn(4, 10)
    plain = linear(x)
    linear.adapter = adapter_of(dropout=0.5)
    torch.manual_seed(0)
    first = linear.train()(x)
    torch.manual_seed(0)
    assert torch.equal(linear(x), first), "it follows torch's seed"
    assert not torch.equal(linear(x), first)
    assert torch.equal(linear(x)[:, :2], plain[:, :2]) and torch.equal(linear(x)[:, 12:], plain[:, 12:])
    linear.eval()
    whole = linear.adapter.folded(linear.weight)
    torch.testing.assert_close(linear(x), torch.nn.functional.linear(x, whole, linear.bias), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("magnitudes", [False, True])
def test_a_stack_is_its_experts_one_by_one(magnitudes):
    stacked = StackedLinear(3, 10, 14, bias=False)
    torch.nn.init.normal_(stacked.weight, generator=torch.Generator().manual_seed(1))
    adapter = adapter_of(experts=3, magnitudes=magnitudes)
    adapter.begin_at(stacked.weight)
    x, ends = torch.randn(8, 10, requires_grad=True), torch.tensor([3, 3, 8], dtype=torch.int32)
    whole = adapter.folded(stacked.weight)
    expected = torch.stack([whole[group] @ row for row, group in zip(x, group_of_rows(ends, 8), strict=True)])
    stacked.adapter = adapter
    found = stacked(x, ends)
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-4)
    found.sum().backward()
    assert x.grad is not None and all(parameter.grad is not None for parameter in adapter.parameters())


def test_experts_with_adapters_take_the_way_that_knows_them():
    """A kernel that reads the stacked weights alone must not run."""
    from beichen.nn.config import ExpertsConfig

    experts = Experts(16, ExpertsConfig(num_experts=4, num_experts_per_token=2, intermediate_size=8))
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    adapter = LowRank(16, 16, [Part(0, 8, 2, 1.0), Part(8, 16, 2, 1.0)], experts=4)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    folded = copy.deepcopy(experts)
    folded.gate_up.weight.data.copy_(adapter.folded(experts.gate_up.weight))
    experts.gate_up.adapter = adapter
    x, chosen, weights = torch.randn(5, 16), torch.tensor([[0, 3]] * 5), torch.full((5, 2), 0.5)
    torch.testing.assert_close(experts(x, chosen, weights), folded(x, chosen, weights), atol=1e-4, rtol=1e-4)


def test_parts_that_overlap_are_refused():
    with pytest.raises(ValueError, match="overlap"):
        LowRank(4, 8, [Part(0, 5, 1, 1.0), Part(4, 8, 1, 1.0)])
