"""Few-row products, attention over a cache, and the whole step equal slow references, row by row and column by column."""

import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from beichen.nn.kernels.decode import DecoderStep, LayerWeights, few_row_linear, paged_attention
from beichen.nn.kernels.quantized import Codes
from tests import needs

pytestmark = needs.compiled_kernels


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@settings(max_examples=150)
@given(rows=st.integers(1, 70), outer=st.integers(1, 90), inner=st.integers(1, 200), with_bias=st.booleans(), seed=st.integers(0, 1000))
def test_few_row_linear_equals_torch(rows: int, outer: int, inner: int, with_bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    x, weight = torch.randn(rows, 1, inner).bfloat16(), torch.randn(outer, inner).bfloat16()
    bias = torch.randn(outer).bfloat16() if with_bias else None
    wanted = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert error(few_row_linear(x, weight, bias), wanted) < 0.004
    assert error(few_row_linear(x, weight, bias, dtype=torch.float32), wanted) < 1e-5


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.double().chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


def scattered_tables(rows: int, columns: int, *, size: int = 16) -> tuple[Tensor, int]:
    """Tables with room for so many columns, blocks in no order, and the number of blocks.  -> [rows, blocks each] int32"""
    each = -(-columns // size)
    return torch.randperm(rows * each + 3)[: rows * each].view(rows, each).int(), rows * each + 3


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 4, 64), (4, 2, 10), (3, 1, 100), (2, 2, 160)])
@pytest.mark.parametrize("size", [16, 48])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threads", [1, 3])
def test_paged_attention_equals_reference(heads: int, kv_heads: int, dim: int, size: int, seed: int, threads: int) -> None:
    """Sequences fed side by side in chunks of any size, into blocks that lie anywhere: each query sees its own sequence up to itself."""
    torch.manual_seed(seed)
    chooser = random.Random(seed)
    rows, columns = 3, 200
    qkv = torch.randn(rows, columns, (heads + 2 * kv_heads) * dim).bfloat16()
    angle = torch.rand(rows, columns, dim // 2) * 6
    cos, sin = angle.cos(), angle.sin()
    tables, blocks = scattered_tables(rows, columns, size=size)
    keys, values = (torch.full((blocks, kv_heads, size, dim), float("nan")).bfloat16() for _ in range(2))
    outs: list[list[Tensor]] = [[] for _ in range(rows)]
    pasts = [0] * rows
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    while min(pasts) < columns:
        going = [row for row in range(rows) if pasts[row] < columns]
        counts = {row: min(columns - pasts[row], chooser.choice([1, 3, 17, 64, 70, 130])) for row in going}
        spans = [(row, slice(pasts[row], pasts[row] + count)) for row, count in counts.items()]
        out = paged_attention(
            torch.cat([qkv[span] for span in spans]), torch.cat([cos[span] for span in spans]), torch.cat([sin[span] for span in spans]),
            tables[going], torch.tensor(list(counts.values())).int(), torch.tensor([pasts[row] for row in going]).int(), keys, values,
            num_heads=heads, scale=dim**-0.5,
        )  # fmt: skip
        for row, part in zip(going, out.split(list(counts.values())), strict=True):
            outs[row].append(part)
            pasts[row] += counts[row]
    torch.set_num_threads(before)
    x = qkv.unflatten(-1, (-1, dim)).transpose(1, 2)
    query, key = (rotated(t, cos[:, None], sin[:, None]) for t in (x[:, :heads], x[:, heads : heads + kv_heads]))
    key, value = (t.double().repeat_interleave(heads // kv_heads, 1) for t in (key, x[:, heads + kv_heads :]))
    seen = torch.ones(columns, columns, dtype=torch.bool).tril()
    wanted = (query @ key.mT * dim**-0.5).masked_fill(~seen, float("-inf")).softmax(-1) @ value
    assert error(torch.stack([torch.cat(parts) for parts in outs]), wanted.transpose(1, 2).flatten(2)) < 0.006


def layer(hidden: int, heads: int, kv_heads: int, dim: int, inner: int, bias: bool, normed: bool) -> LayerWeights:
    def weight(*shape: int) -> Tensor:
        return (torch.randn(shape) / shape[-1] ** 0.5).bfloat16()

    width = (heads + 2 * kv_heads) * dim
    return LayerWeights(
        attention_norm=1 + weight(hidden), qkv=weight(width, hidden), qkv_bias=weight(width) if bias else None,
        query_norm=1 + weight(dim) if normed else None, key_norm=1 + weight(dim) if normed else None,
        output=weight(hidden, heads * dim), output_bias=weight(hidden) if bias else None, feed_forward_norm=1 + weight(hidden),
        gate_up=weight(2 * inner, hidden), gate_up_bias=weight(2 * inner) if bias else None,
        down=weight(hidden, inner), down_bias=weight(hidden) if bias else None,
    )  # fmt: skip


def slow_decoder(
    layers: list[LayerWeights], final: Tensor, x: Tensor, cos: Tensor, sin: Tensor, first: Tensor, heads: int, dim: int, after: bool,
    scale: Tensor,
) -> Tensor:  # fmt: skip
    """All columns at once in float64; x [rows, columns, hidden]; scale of queries [rows, columns]."""

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return weight.double() * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)

    def linear(x: Tensor, weight: Tensor | Codes, bias: Tensor | None) -> Tensor:
        assert isinstance(weight, Tensor)
        return F.linear(x, weight.double(), None if bias is None else bias.double())

    rows, columns, _ = x.shape
    total = x.double()
    column = torch.arange(columns)
    seen = ((column <= column[:, None]) & (column >= first[:, None, None]))[:, None]
    for weights in layers:
        normed = norm(total, weights.attention_norm)
        qkv = linear(normed, weights.qkv, weights.qkv_bias).unflatten(-1, (-1, dim)).transpose(1, 2)
        kv_heads = (qkv.shape[1] - heads) // 2
        query, key = qkv[:, :heads], qkv[:, heads : heads + kv_heads]
        if weights.query_norm is not None and weights.key_norm is not None:
            query, key = norm(query, weights.query_norm), norm(key, weights.key_norm)
        query, key = (rotated(t, cos[:, None], sin[:, None]) for t in (query * scale[:, None, :, None], key))
        key, value = (t.repeat_interleave(heads // kv_heads, 1) for t in (key, qkv[:, heads + kv_heads :]))
        scores = (query @ key.mT * dim**-0.5).masked_fill(~seen, -1e30)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(rows, columns, heads * dim)
        total = (normed if after else total) + linear(mixed, weights.output, weights.output_bias)
        normed = norm(total, weights.feed_forward_norm)
        gate, up = linear(normed, weights.gate_up, weights.gate_up_bias).chunk(2, -1)
        total = (normed if after else total) + linear(F.silu(gate) * up, weights.down, weights.down_bias)
    return norm(total, final)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 19])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "hidden", "inner", "bias", "after", "about_queries"),
    [
        (2, 2, 64, 128, 176, False, False, False),
        (4, 2, 10, 48, 33, True, False, True),
        (3, 1, 32, 100, 64, True, True, False),
        (4, 2, 64, 96, 80, False, False, True),
    ],
)
def test_a_step_equals_the_uncached_decoder(
    rows: int, heads: int, kv_heads: int, dim: int, hidden: int, inner: int, bias: bool, after: bool, about_queries: bool
) -> None:
    torch.manual_seed(rows)
    layers = [layer(hidden, heads, kv_heads, dim, inner, bias, normed=about_queries) for _ in range(3)]
    final, columns = torch.rand(hidden).bfloat16(), 6
    step = DecoderStep(
        layers, final, num_heads=heads, num_key_value_heads=kv_heads, head_dim=dim, eps=1e-5, scale=dim**-0.5, residual_after_norm=after
    )
    x, angle = torch.randn(rows, columns, hidden).bfloat16(), torch.rand(rows, columns, dim // 2) * 6
    tables, blocks = scattered_tables(rows, columns)
    keys, values = (torch.full((3, blocks, kv_heads, 16, dim), float("nan")).bfloat16() for _ in range(2))
    first = torch.arange(rows) % 3  # the step with which a row begins; before, it writes its first column again and again
    scale = 1 + torch.rand(rows, columns) if about_queries else torch.ones(rows, columns)
    found = []
    for column in range(columns):
        cos, sin = angle[:, column].cos(), angle[:, column].sin()
        sharper = scale[:, column].contiguous() if about_queries else None
        own = (column - first).clamp(min=0).int()
        found.append(step(x[:, column].contiguous(), cos, sin, tables, torch.arange(rows).int(), own, keys, values, query_scale=sharper))
    wanted = slow_decoder(layers, final, x, angle.cos(), angle.sin(), first, heads, dim, after, scale.double())
    assert error(torch.stack(found, 1)[:, 3:], wanted[:, 3:]) < 0.02


@pytest.mark.parametrize("rows", [1, 3, 9, 16, 21])
@pytest.mark.parametrize(("heads", "kv_heads", "dim", "hidden", "inner"), [(4, 2, 16, 100, 173), (3, 3, 32, 96, 64)])
def test_a_step_is_the_same_bit_for_bit_with_any_number_of_threads(
    rows: int, heads: int, kv_heads: int, dim: int, hidden: int, inner: int
) -> None:
    """So that an answer does not depend on how busy the machine is."""
    torch.manual_seed(rows)
    layers = [layer(hidden, heads, kv_heads, dim, inner, True, normed=False) for _ in range(2)]
    step = DecoderStep(
        layers, torch.rand(hidden).bfloat16(), num_heads=heads, num_key_value_heads=kv_heads, head_dim=dim, eps=1e-5, scale=dim**-0.5
    )
    tables, blocks = scattered_tables(rows, 40)
    columns = torch.randint(20, 40, (rows,)).int()
    x, angle = torch.randn(rows, hidden).bfloat16(), torch.rand(rows, dim // 2) * 6
    past = torch.randn(2, 2, blocks, kv_heads, 16, dim).bfloat16()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4, 7):
            torch.set_num_threads(threads)
            keys, values = past.clone()
            found.append(step(x, angle.cos(), angle.sin(), tables, torch.arange(rows).int(), columns, keys, values))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found)
