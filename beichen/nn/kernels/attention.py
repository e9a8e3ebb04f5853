"""Rotary causal attention on the CPU: the fused projection goes in, the heads' outputs come out, with a gradient.

Called by ``nn/attention.py`` where ``can_run`` says so; equal to its torch reference within bf16 rounding. Query column c of
row r sees key columns ``first_visible[r, c] .. c``; blocks that nobody sees cost nothing, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beichen.nn.kernels import build

_FORWARD = ("attention_forward", "pppppp llllll fi")
_BACKWARD = ("attention_backward", "pppppppp llllll fi")


def attention_without_gradient(
    qkv: Tensor, cos: Tensor, sin: Tensor, first_visible: Tensor, out: Tensor, heads: int, kv_heads: int, scale: float
) -> Tensor:
    """Fill ``out`` [rows, tokens, n * d].  -> log2 of the sums of exponentials [rows, heads, tokens], for the gradient"""
    rows, tokens, width = qkv.shape
    logsum = torch.empty(rows, heads, tokens)
    sizes = (rows, cos.shape[0], tokens, heads, kv_heads, width // (heads + 2 * kv_heads), scale)
    pointers = (t.data_ptr() for t in (qkv, cos, sin, first_visible, out, logsum))
    build.function(*_FORWARD)(*pointers, *sizes, torch.get_num_threads())
    return logsum


class _RopeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, first_visible: Tensor, heads: int, kv_heads: int, scale: float) -> Tensor:
        rows, tokens, width = qkv.shape
        dim = width // (heads + 2 * kv_heads)
        out = qkv.new_empty(rows, tokens, heads * dim)
        logsum = attention_without_gradient(qkv, cos, sin, first_visible, out, heads, kv_heads, scale)
        ctx.save_for_backward(qkv, cos, sin, first_visible, out, logsum)
        ctx.sizes = (rows, cos.shape[0], tokens, heads, kv_heads, dim, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qkv, cos, sin, first_visible, out, logsum = ctx.saved_tensors
        grad, dqkv = grads[0].contiguous(), torch.empty_like(qkv)
        pointers = (t.data_ptr() for t in (qkv, cos, sin, first_visible, out, grad, logsum, dqkv))
        build.function(*_BACKWARD)(*pointers, *ctx.sizes, torch.get_num_threads())
        return dqkv, None, None, None, None, None, None


def rope_attention(
    qkv: Tensor, cos: Tensor, sin: Tensor, first_visible: Tensor, *, num_heads: int, num_key_value_heads: int, scale: float
) -> Tensor:
    """Attention output [rows, tokens, n * d] bf16 of ``qkv`` [rows, tokens, (n + 2m) * d] bf16.

    ``cos``, ``sin``: [rows or 1, tokens, d / 2] float32; channel pair (i, i + d/2) becomes (a cos - b sin, a sin + b cos).
    ``first_visible``: [rows, tokens] int32, non-decreasing within a row. Query head h uses key/value head h // (n / m).
    """
    rows, tokens, width = qkv.shape
    cos, sin, first_visible = cos.contiguous(), sin.contiguous(), first_visible.contiguous()
    build.require(qkv)
    build.require(cos, sin, dtype=torch.float32)
    build.require(first_visible, dtype=torch.int32)
    dim, rest = divmod(width, num_heads + 2 * num_key_value_heads)
    if rest or dim % 2 or num_heads % num_key_value_heads:
        raise ValueError(f"width {width} does not hold {num_heads} query and 2 x {num_key_value_heads} key/value heads of an even size")
    if (
        cos.shape[0] not in (1, rows)
        or cos.shape[1:] != (tokens, dim // 2)
        or sin.shape != cos.shape
        or first_visible.shape != (rows, tokens)
    ):
        raise ValueError(
            f"qkv {tuple(qkv.shape)} with head size {dim} needs cos and sin [1 or {rows}, {tokens}, {dim // 2}] and first_visible "
            f"[{rows}, {tokens}], got {tuple(cos.shape)}, {tuple(sin.shape)} and {tuple(first_visible.shape)}"
        )
    if scale <= 0:
        raise ValueError(f"scale={scale}: must be positive")
    out: Tensor = _RopeAttention.apply(qkv, cos, sin, first_visible, num_heads, num_key_value_heads, scale)
    return out
