"""Decoding on the CPU without gradients: few-row linear layers, attention over the cache, and a whole decoder's step in one call.

The cache has the layout of ``nn/paged_cache.py``: [layers, blocks, key/value heads, columns of a block, head size], keys already rotated.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beichen.nn.kernels import build
from beichen.nn.kernels.low_rank import AdaptedRows, FewRowUpdate, StepAdapter, rows_of
from beichen.nn.kernels.quantized import HELD, Codes
from beichen.nn.kernels.threads import crew

FEW_ROWS = 64  # above, torch's own matrix product is as fast


def can_run_few_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, rows: int = FEW_ROWS) -> bool:
    """Whether ``few_row_linear`` should do this product: no gradient, bf16, few rows (up to ``rows``)."""
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return False
    return x.numel() <= rows * x.shape[-1] and build.can_run(x, weight, bias)


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
        x.numel() // inner, inner, outer, crew.size(),
    )  # fmt: skip
    return out


def paged_attention(
    qkv: Tensor, cos: Tensor, sin: Tensor, tables: Tensor, counts: Tensor, pasts: Tensor, keys: Tensor, values: Tensor, *,
    num_heads: int, scale: float,
) -> Tensor:  # fmt: skip
    """Put the new columns' rotated keys and values into their blocks, then attend.  -> [tokens, n * d] bf16

    qkv [tokens, (n + 2m) * d], those of one sequence after another; cos, sin [tokens, d / 2] float32; tables [sequences, most blocks],
    counts, pasts [sequences] int32: new columns and earlier ones, as a ``PagedPass`` has checked them; keys, values: one layer,
    [blocks, m, size, d].
    """
    tokens, (_, kv_heads, size, dim) = len(qkv), keys.shape
    cos, sin = cos.contiguous(), sin.contiguous()
    build.require(qkv, keys, values)
    build.require(cos, sin, dtype=torch.float32)
    build.require(tables, counts, pasts, dtype=torch.int32)
    if qkv.shape[1] != (num_heads + 2 * kv_heads) * dim or cos.shape != (tokens, dim // 2) or len(counts) != len(tables):
        raise ValueError(f"qkv {tuple(qkv.shape)}, cos {tuple(cos.shape)}, {len(tables)} tables do not fit a cache {tuple(keys.shape)}")
    out = torch.empty(tokens, num_heads * dim, dtype=torch.bfloat16)
    build.function("attention_paged", "ppppppppp llllll fi")(
        qkv.data_ptr(), cos.data_ptr(), sin.data_ptr(), tables.data_ptr(), counts.data_ptr(), pasts.data_ptr(),
        keys.data_ptr(), values.data_ptr(), out.data_ptr(),
        len(tables), num_heads, kv_heads, dim, size, tables.shape[1], scale, torch.get_num_threads(),
    )  # fmt: skip
    return out


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """The tensors of one layer; the order is that of ``LayerPointers`` in source/decode.cpp. All matrices are held alike."""

    attention_norm: Tensor  # [hidden]
    qkv: Tensor | Codes  # [(n + 2m) * d, hidden]
    qkv_bias: Tensor | None
    query_norm: Tensor | None  # [d]
    key_norm: Tensor | None
    output: Tensor | Codes  # [hidden, n * d]
    output_bias: Tensor | None
    feed_forward_norm: Tensor  # [hidden]
    gate_up: Tensor | Codes  # [2 F, hidden]
    gate_up_bias: Tensor | None
    down: Tensor | Codes  # [hidden, F]
    down_bias: Tensor | None

    def tensors(self) -> list[Tensor | None]:
        """Of a matrix two: weights and nothing, or codes and scales."""
        found: list[Tensor | None] = []
        for name in self.__dataclass_fields__:
            one = getattr(self, name)
            found += [one] if name not in _MATRICES else [one.codes, one.scales] if isinstance(one, Codes) else [one, None]
        return found

    @property
    def held_as(self) -> str | None:
        return self.down.kind if isinstance(self.down, Codes) else None


_MATRICES = ("qkv", "output", "gate_up", "down")


class DecoderStep:
    """New columns of sequences, a few in all, through all layers of a decoder (RMSNorm, SwiGLU, rotary), in one call.

    Holds the weights' addresses: make a new one after the weights moved.
    """

    def __init__(
        self, layers: Sequence[LayerWeights], final_norm: Tensor, *,
        num_heads: int, num_key_value_heads: int, head_dim: int, eps: float, scale: float, residual_after_norm: bool = False,
    ) -> None:  # fmt: skip
        tensors = [tensor for layer in layers for tensor in layer.tensors()]
        build.require(final_norm, *(one for layer in layers for one in vars(layer).values() if not isinstance(one, Codes)))
        self._kept, self._matrices = (tensors, final_norm), [getattr(layer, name).shape for layer in layers for name in _MATRICES]
        self._pointers = (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))
        self._final_norm = final_norm.data_ptr()
        self._layers, self._hidden, self._intermediate = len(layers), final_norm.shape[0], layers[0].down.shape[1]
        self._heads, self._kv_heads, self._dim = num_heads, num_key_value_heads, head_dim
        self._eps, self._scale, self._residual_after_norm, self._held = eps, scale, int(residual_after_norm), HELD[layers[0].held_as]
        self._run = build.function("decode_step", "ppppppppppppp lllllllllll ff iiii > d")

    def adapter(self, updates: Sequence[FewRowUpdate | None]) -> StepAdapter:
        """What an adapter does to qkv, output, gate and up, down of each layer in turn; None where it leaves one alone."""
        for update, shape in zip(updates, self._matrices, strict=True):
            if update is not None and not update.fits(shape[1], shape[0]):
                raise ValueError(f"an update of {update.end} columns from {update.inner} does not fit a matrix {tuple(shape)}")
        return StepAdapter(updates)

    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, tables: Tensor, sequences: Tensor, columns: Tensor, keys: Tensor, values: Tensor, *,
        query_scale: Tensor | None = None, several: bool = False, adapted: Sequence[AdaptedRows] = (),
    ) -> Tensor:  # fmt: skip
        """x [rows, hidden] bf16: the embedding of the new ids; cos, sin [rows, d / 2], query_scale [rows] float32; keys, values [layers,
        blocks, m, size, d]; tables [sequences, most blocks] int32: each one's blocks; sequences, columns [rows] int32: whose a new column
        is, and which; several: whether a sequence has more than one; adapted: in their order, apart from each other.  -> final hidden
        states [rows, hidden], normed
        """
        rows, (layers, blocks, kv_heads, size, dim) = len(x), keys.shape
        if (layers, kv_heads, dim) != (self._layers, self._kv_heads, self._dim) or values.shape != keys.shape or size % 16:
            raise ValueError(f"a cache {tuple(keys.shape)} does not fit {self._layers} layers of {self._kv_heads} heads of {self._dim}")
        build.require(x, keys, values)
        build.require(cos, sin, query_scale, dtype=torch.float32)
        build.require(tables, sequences, columns, dtype=torch.int32)
        if len(sequences) != rows or columns.shape != (rows,) or cos.shape != (rows, dim // 2):
            raise ValueError(f"{rows} rows came with {len(sequences)} sequences, {len(columns)} columns and cos {tuple(cos.shape)}")
        out, moved = torch.empty_like(x), rows_of(adapted, rows)
        waited = self._run(
            self._pointers, self._final_norm, x.data_ptr(), cos.data_ptr(), sin.data_ptr(),
            None if query_scale is None else query_scale.data_ptr(), tables.data_ptr(), sequences.data_ptr(), columns.data_ptr(),
            keys.data_ptr(), values.data_ptr(), out.data_ptr(), moved, len(adapted),
            self._layers, rows, self._hidden, self._heads, self._kv_heads, self._dim, self._intermediate, blocks, size, tables.shape[1],
            self._eps, self._scale, self._residual_after_norm, int(several), self._held, crew.size(),
        )  # fmt: skip
        crew.tell(waited)
        return out
