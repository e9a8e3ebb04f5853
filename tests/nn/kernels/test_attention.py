"""Rotary attention equals a float64 reference, gradients too, and a packed row equals its documents alone."""

import itertools

import pytest
import torch
from torch import Tensor

from beichen.nn import kernels
from tests import needs

pytestmark = needs.compiled_kernels


def reference(qkv: Tensor, cos: Tensor, sin: Tensor, first_visible: Tensor, heads: int, kv_heads: int, scale: float) -> Tensor:
    rows, tokens, width = qkv.shape
    dim = width // (heads + 2 * kv_heads)
    x = qkv.view(rows, tokens, -1, dim).transpose(1, 2)
    query, key, value = x.split([heads, kv_heads, kv_heads], dim=1)

    def turn(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        c, s = cos.to(x.dtype)[:, None], sin.to(x.dtype)[:, None]
        return torch.cat((a * c - b * s, a * s + b * c), -1)

    key, value = (t.repeat_interleave(heads // kv_heads, 1) for t in (turn(key), value))
    column = torch.arange(tokens)
    seen = (column <= column[:, None]) & (column >= first_visible[:, :, None])
    scores = (turn(query) @ key.transpose(-1, -2) * scale).masked_fill(~seen[:, None], float("-inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2).reshape(rows, tokens, heads * dim)


def starts(rows: int, tokens: int, longest: int, seed: int = 0) -> Tensor:
    """first_visible of documents of 1 .. longest tokens; 0: one document per row."""
    first = torch.zeros(rows, tokens, dtype=torch.int32)
    generator = torch.Generator().manual_seed(seed)
    for row in first if longest else ():
        begin = 0
        while begin < tokens:
            length = int(torch.randint(1, longest + 1, (), generator=generator))
            row[begin : begin + length] = begin
            begin += length
    return first


def angles(rows: int, tokens: int, dim: int) -> tuple[Tensor, Tensor]:
    angle = torch.rand(rows, tokens, dim // 2) * 6
    return angle.cos(), angle.sin()


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted.detach().double()).norm() / wanted.detach().double().norm())


@pytest.mark.parametrize(
    ("rows", "tokens", "heads", "kv_heads", "dim", "longest"),
    [(2, 70, 4, 2, 64, 0), (2, 130, 2, 1, 10, 40), (1, 200, 4, 4, 100, 60), (2, 97, 2, 2, 128, 0), (1, 65, 6, 3, 160, 20),
     (3, 33, 2, 2, 64, 5), (2, 256, 2, 1, 64, 150)],
)  # fmt: skip
def test_equals_reference(rows: int, tokens: int, heads: int, kv_heads: int, dim: int, longest: int) -> None:
    torch.manual_seed(tokens)
    qkv = torch.randn(rows, tokens, (heads + 2 * kv_heads) * dim).bfloat16().requires_grad_()
    wide = qkv.detach().double().requires_grad_()
    cos, sin = angles(1 if rows == 2 else rows, tokens, dim)
    first = starts(rows, tokens, longest)
    out = kernels.rope_attention(qkv, cos, sin, first, num_heads=heads, num_key_value_heads=kv_heads, scale=dim**-0.5)
    expected = reference(wide, cos, sin, first, heads, kv_heads, dim**-0.5)
    gradient = torch.randn(out.shape).bfloat16()
    out.backward(gradient)
    expected.backward(gradient.double())
    assert qkv.grad is not None and wide.grad is not None
    assert error(out, expected) < 0.006 and error(qkv.grad, wide.grad) < 0.008


def test_large_scores_stay_finite_and_right() -> None:
    """Scores of +-100 with the maximum at the end: the running maximum is raised as it goes."""
    torch.manual_seed(0)
    qkv = torch.randn(1, 300, 3 * 32).bfloat16()
    qkv[..., :64] *= torch.linspace(1, 40, 300)[:, None]
    cos, sin, first = *angles(1, 300, 32), torch.zeros(1, 300, dtype=torch.int32)
    out = kernels.rope_attention(qkv, cos, sin, first, num_heads=1, num_key_value_heads=1, scale=0.02)
    assert error(out, reference(qkv.double(), cos, sin, first, 1, 1, 0.02)) < 0.03


def test_a_packed_row_equals_its_documents_alone() -> None:
    torch.manual_seed(1)
    qkv, (cos, sin) = torch.randn(1, 190, 4 * 64).bfloat16(), angles(1, 190, 64)
    bounds, first = [0, 17, 64, 150, 190], torch.zeros(1, 190, dtype=torch.int32)
    for begin, end in itertools.pairwise(bounds):
        first[:, begin:end] = begin
    packed = kernels.rope_attention(qkv, cos, sin, first, num_heads=2, num_key_value_heads=1, scale=0.125)
    for begin, end in itertools.pairwise(bounds):
        alone = kernels.rope_attention(
            qkv[:, begin:end].contiguous(), cos[:, begin:end], sin[:, begin:end], torch.zeros(1, end - begin, dtype=torch.int32),
            num_heads=2, num_key_value_heads=1, scale=0.125,
        )  # fmt: skip
        assert error(packed[:, begin:end], alone) < 0.004


def test_same_bits_with_any_thread_count() -> None:
    torch.manual_seed(2)
    qkv, (cos, sin), before = torch.randn(2, 100, 6 * 32).bfloat16(), angles(1, 100, 32), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            x = qkv.clone().requires_grad_()
            out = kernels.rope_attention(x, cos, sin, starts(2, 100, 30), num_heads=2, num_key_value_heads=2, scale=0.2)
            out.sum().backward()
            assert x.grad is not None
            found.append((out, x.grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_wrong_arguments_are_named() -> None:
    qkv, (cos, sin), first = torch.randn(1, 8, 3 * 16), angles(1, 8, 16), starts(1, 8, 0)
    with pytest.raises(TypeError, match="bfloat16"):
        kernels.rope_attention(qkv, cos, sin, first, num_heads=1, num_key_value_heads=1, scale=1.0)
    with pytest.raises(ValueError, match="cos and sin"):
        kernels.rope_attention(qkv.bfloat16(), cos[:, :4], sin[:, :4], first, num_heads=1, num_key_value_heads=1, scale=1.0)
