"""Decoding on the CPU without gradients: few-row linear layers, attention over the cache, and a whole decoder's step in one call.

The cache has the layout of ``nn/cache.py``: [layers, rows, key/value heads, capacity, head size], keys already rotated, every row
filled up to the same column.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beichen.nn.kernels import build
from beichen.nn.kernels.attention import attention_without_gradient

FEW_ROWS = 64  # above, torch's own matrix product is as fast
PREFILL_TOKENS = 16  # from here on a first pass goes through the blocked kernel


def can_run_few_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether ``few_row_linear`` should do this product: no gradient, bf16, few rows."""
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return False
    return x.numel() <= FEW_ROWS * x.shape[-1] and build.can_run(x, weight, bias)


@torch.no_grad()
def few_row_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """x [..., K] bf16, weight [N, K] bf16, bias [N] bf16 -> [..., N] of ``dtype``: bf16 or float32 (not rounded on the way)."""
    build.require(x, weight, bias)
    inner, outer = x.shape[-1], weight.shape[0]
    if weight.shape[1] != inner or (bias is not None and bias.shape != (outer,)):
        raise ValueError(f"x [..., {inner}] needs a weight [N, {inner}] and a bias [N], got {tuple(weight.shape)}")
    out = torch.empty(*x.shape[:-1], outer, dtype=dtype)
    wide, narrow = (out.data_ptr(), None) if dtype == torch.float32 else (None, out.data_ptr())
    run = build.function("linear_few_rows", "ppppp lll i")
    run(
        x.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr(), wide, narrow,
        x.numel() // inner, inner, outer, torch.get_num_threads(),
    )  # fmt: skip
    return out


@torch.no_grad()
def cached_attention(
    qkv: Tensor, cos: Tensor, sin: Tensor, first_visible: Tensor | None, keys: Tensor, values: Tensor, *,
    past: int, num_heads: int, scale: float,
) -> Tensor:  # fmt: skip
    """Append the new columns' rotated keys and values behind ``past``, then attend.  -> [rows, tokens, n * d] bf16

    qkv [rows, tokens, (n + 2m) * d]; cos, sin [rows or 1, tokens, d / 2] float32; first_visible [rows, tokens] int32 in columns, or
    None; keys, values: one layer of the cache, [rows, m, capacity, d].
    """
    rows, tokens, _ = qkv.shape
    kv_heads, capacity, dim = keys.shape[1:]
    cos, sin = cos.contiguous(), sin.contiguous()
    build.require(qkv, keys, values)
    build.require(cos, sin, dtype=torch.float32)
    if past + tokens > capacity or qkv.shape[2] != (num_heads + 2 * kv_heads) * dim:
        raise ValueError(f"qkv {tuple(qkv.shape)} does not fit behind {past} columns of a cache {tuple(keys.shape)}")
    if first_visible is not None:
        first_visible = first_visible.contiguous()
        build.require(first_visible, dtype=torch.int32)
    prefill = past == 0 and tokens >= PREFILL_TOKENS
    out = torch.empty(rows, tokens, num_heads * dim, dtype=torch.bfloat16)
    build.function("attention_cached", "ppppppp llllllll fi")(
        qkv.data_ptr(), cos.data_ptr(), sin.data_ptr(), None if first_visible is None else first_visible.data_ptr(),
        keys.data_ptr(), values.data_ptr(), None if prefill else out.data_ptr(),
        rows, cos.shape[0], tokens, num_heads, kv_heads, dim, capacity, past, scale, torch.get_num_threads(),
    )  # fmt: skip
    if prefill:
        starts = torch.zeros(rows, tokens, dtype=torch.int32) if first_visible is None else first_visible
        attention_without_gradient(qkv, cos, sin, starts, out, num_heads, kv_heads, scale)
    return out


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """The tensors of one layer; the order is that of ``LayerPointers`` in source/decode.cpp."""

    attention_norm: Tensor  # [hidden]
    qkv: Tensor  # [(n + 2m) * d, hidden]
    qkv_bias: Tensor | None
    query_norm: Tensor | None  # [d]
    key_norm: Tensor | None
    output: Tensor  # [hidden, n * d]
    output_bias: Tensor | None
    feed_forward_norm: Tensor  # [hidden]
    gate_up: Tensor  # [2 F, hidden]
    gate_up_bias: Tensor | None
    down: Tensor  # [hidden, F]
    down_bias: Tensor | None

    def tensors(self) -> list[Tensor | None]:
        return [getattr(self, name) for name in self.__dataclass_fields__]


class DecoderStep:
    """One new column for every row through all layers of a decoder (RMSNorm, SwiGLU, rotary), in one call.

    Holds the weights' addresses: make a new one after the weights moved.
    """

    def __init__(
        self, layers: Sequence[LayerWeights], final_norm: Tensor, *,
        num_heads: int, num_key_value_heads: int, head_dim: int, eps: float, scale: float, residual_after_norm: bool = False,
    ) -> None:  # fmt: skip
        tensors = [tensor for layer in layers for tensor in layer.tensors()]
        build.require(final_norm, *tensors)
        self._kept = (tensors, final_norm)
        self._pointers = (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))
        self._final_norm = final_norm.data_ptr()
        self._layers, self._hidden, self._intermediate = len(layers), final_norm.shape[0], layers[0].down.shape[1]
        self._heads, self._kv_heads, self._dim = num_heads, num_key_value_heads, head_dim
        self._eps, self._scale, self._residual_after_norm = eps, scale, int(residual_after_norm)
        self._run = build.function("decode_step", "pppppppppp lllllllll ff ii")

    @torch.no_grad()
    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, first_visible: Tensor | None, keys: Tensor, values: Tensor, *, past: int,
        query_scale: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """x [rows, hidden] bf16: the embedding of the new ids; cos, sin [rows, d / 2], query_scale [rows] float32; first_visible
        [rows] int32, in columns; keys, values [layers, rows, m, capacity, d], columns before ``past`` filled.
        -> final hidden states [rows, hidden], normed
        """
        rows, capacity = x.shape[0], keys.shape[3]
        expected = (self._layers, rows, self._kv_heads, capacity, self._dim)
        if keys.shape != expected or values.shape != expected or past >= capacity:
            raise ValueError(f"a cache {tuple(keys.shape)} with {past} columns filled does not fit a step of {expected}")
        build.require(x, keys, values)
        build.require(cos, sin, query_scale, dtype=torch.float32)
        out = torch.empty_like(x)
        self._run(
            self._pointers, self._final_norm, x.data_ptr(), cos.data_ptr(), sin.data_ptr(),
            None if query_scale is None else query_scale.data_ptr(), None if first_visible is None else first_visible.data_ptr(),
            keys.data_ptr(), values.data_ptr(), out.data_ptr(),
            self._layers, rows, self._hidden, self._heads, self._kv_heads, self._dim, self._intermediate, capacity, past,
            self._eps, self._scale, self._residual_after_norm, torch.get_num_threads(),
        )  # fmt: skip
        return out
