"""Weight-only quantization of linear layers: int8 by rows, NF4 by blocks of 64. Training with a frozen base and inference use the same.

In: modules that hold ``Linear`` and ``StackedLinear``, or one matrix. Out: the same, their matrices replaced by codes and scales (8.0
and 4.25 bits a weight, beside one float32 scale a row for int8) and dequantized where they are used, one layer at a time, in the number
format of the input; few rows of bf16 on a CPU are multiplied by the codes as they are (``nn.kernels``). Nothing of a matrix's size is kept
for the backward pass; gradients go to the input, never to the codes.

Bounds, for a weight w of a row (int8) or block (NF4) whose largest magnitude is m, before the result is rounded to the format asked for:
int8 |w - w'| <= m / 254; NF4 |w - w'| <= 0.152 m + 2^-25 (half of the widest gap between its 16 values, and the rounding of m to float16).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.errors import CheckpointError
from beichen.nn import kernels
from beichen.nn.experts import StackedLinear
from beichen.nn.grouped import grouped_linear
from beichen.nn.kernels.quantized import FEW_ROWS_OF_CODES, NF4_BLOCK
from beichen.nn.linear import Linear
from beichen.nn.linear_layer import LinearLayer
from beichen.nn.spans import Span, moved
from beichen.util.memory import ask_for_huge_pages

Kind = Literal["int8", "nf4"]
KINDS: tuple[Kind, ...] = get_args(Kind)

AT_ONCE = 1 << 22  # weights that are quantized in one go, and dequantized from NF4
NF4 = (  # quantiles of the normal distribution, zero among them (Dettmers et al. 2023, appendix E)
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
    0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


class QuantizedMatrix(nn.Module):
    """Codes and scales of a weight [..., out, in]."""

    codes: Tensor  # int8 [..., out, in]; NF4: uint8 [..., out, blocks * 32], two to a byte, the first in the high half
    scales: Tensor  # int8: float32 [..., out, 1]; NF4: float16 [..., out, blocks]

    def __init__(self, weight: Tensor, kind: Kind) -> None:
        super().__init__()
        self.kind, self.in_features = kind, weight.shape[-1]
        codes, scales = _by_rows(weight, _to_int8 if kind == "int8" else _to_nf4)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.codes.shape[:-1], self.in_features))

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[..., out, in]"""
        if dtype == torch.bfloat16 and kernels.can_run(self.codes, self.scales, dtype=None):
            return kernels.dequantized(self.as_codes()).view(self.shape)
        if self.kind == "int8":
            return (self.codes * self.scales).to(dtype)
        rows, blocks = self.codes.flatten(0, -2), self.scales.flatten(0, -2)
        out = torch.empty(len(rows), self.in_features, dtype=dtype, device=rows.device)
        step = max(1, AT_ONCE // self.in_features)
        for begin in range(0, len(rows), step):
            part = slice(begin, begin + step)
            values = F.embedding(rows[part].int(), _pairs(rows.device)).view(*blocks[part].shape, NF4_BLOCK)
            values *= blocks[part].float()[..., None]
            out[part] = values.flatten(1)[:, : self.in_features]
        return out.view(*self.codes.shape[:-1], self.in_features)

    def times(self, x: Tensor) -> Tensor:
        """x W^T of a matrix W. bf16 on a CPU: some rows of W at a time, so that their memory is not new each time, page by page."""
        step = max(1, AT_ONCE // self.in_features)
        if len(self.codes) <= step or x.dtype != torch.bfloat16 or not kernels.can_run(self.codes, self.scales, dtype=None):
            return F.linear(x, self.dequantized(x.dtype))
        out = x.new_empty(*x.shape[:-1], len(self.codes))
        for part, codes, scales in zip(out.split(step, -1), self.codes.split(step), self.scales.split(step), strict=True):
            shape = torch.Size((len(codes), self.in_features))
            part.copy_(F.linear(x, kernels.dequantized(kernels.Codes(self.kind, codes, scales, shape))))
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """The same in float32, not rounded on the way where the rows are few."""
        if self.multiplies(hidden):
            return kernels.few_row_quantized(hidden, self.as_codes(), dtype=torch.float32)
        return self.times(hidden).float()

    def multiplies(self, x: Tensor, bias: Tensor | None = None) -> bool:
        """Whether codes may be multiplied as they are: for a few rows of bf16 on a CPU."""
        return self.codes.ndim == 2 and kernels.can_run_few_rows(x, x, bias, rows=FEW_ROWS_OF_CODES)

    def as_codes(self) -> kernels.Codes:
        """The same for a kernel, as one matrix: a stack's rows count on."""
        rows = self.shape[:-1].numel()
        return kernels.Codes(self.kind, self.codes.flatten(0, -2), self.scales.flatten(0, -2), torch.Size((rows, self.in_features)))

    def _apply(self, fn: Any, recurse: bool = True) -> QuantizedMatrix:
        """Moves between devices; the formats of codes and scales are what they are."""
        super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), recurse)
        return self


class QuantizedLinear(nn.Module):
    """``Linear`` over a quantized matrix; the bias stays as it is."""

    def __init__(self, linear: Linear, kind: Kind) -> None:
        super().__init__()
        self.adapter: nn.Module | None = linear.adapter
        self.held_as: str | None = kind
        self.matrix = QuantizedMatrix(linear.weight.detach(), kind)
        self.bias = linear.bias

    def forward(self, x: Tensor, spans: Sequence[Span] = ()) -> Tensor:
        """[..., in] -> [..., out]"""
        if self.matrix.multiplies(x, self.bias):
            out = kernels.few_row_quantized(x, self.matrix.as_codes(), self.bias)
        else:
            out = _Product.apply(x, self.matrix, None)
            out = out if self.bias is None else out + self.bias
        out = out if self.adapter is None else self.adapter(x, out, self)
        return moved(self, x, out, spans) if spans else out

    @property
    def shape(self) -> torch.Size:
        return self.matrix.shape

    def full_weight(self) -> Tensor:
        """[out, in] float32, without the adapter."""
        return self.matrix.dequantized()


class QuantizedStackedLinear(nn.Module):
    """``StackedLinear`` over quantized matrices."""

    is_plain = False

    def __init__(self, linear: StackedLinear, kind: Kind) -> None:
        super().__init__()
        self.adapter: nn.Module | None = linear.adapter
        self.held_as: str | None = kind
        self.matrix = QuantizedMatrix(linear.weight.detach(), kind)
        self.bias = linear.bias

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """Rows sorted by expert, without the bias.  [n, in] -> [n, out]"""
        out = _Product.apply(x, self.matrix, ends)
        return out if self.adapter is None else self.adapter(x, out, self, ends)

    @property
    def shape(self) -> torch.Size:
        return self.matrix.shape

    def full_weight(self) -> Tensor:
        """[experts, out, in] float32, without the adapter."""
        return self.matrix.dequantized()


@torch.no_grad()
def quantize(module: nn.Module, kind: Kind) -> None:
    """Every linear layer below ``module`` by its quantized form, one after another; the memory of the weights is free then."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (Linear, StackedLinear)):
                setattr(parent, name, quantized(child, kind))


@torch.no_grad()
def quantized(layer: LinearLayer, kind: Kind) -> nn.Module:
    """The quantized form of one layer."""
    if isinstance(layer, Linear):
        return QuantizedLinear(layer, kind)
    assert isinstance(layer, StackedLinear), "it is quantized already"
    return QuantizedStackedLinear(layer, kind)


def kind_of(module: nn.Module) -> Kind | None:
    """How the linear layers below ``module`` are quantized; None where they are not."""
    layers = (layer for layer in module.modules() if isinstance(layer, QuantizedLinear | QuantizedStackedLinear))
    return next((layer.matrix.kind for layer in layers), None)


class _Product(torch.autograd.Function):
    """x W^T, W dequantized for the forward and once more for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: QuantizedMatrix, ends: Tensor | None) -> Tensor:
        ctx.matrix, ctx.ends, ctx.dtype = matrix, ends, x.dtype
        return matrix.times(x) if ends is None else grouped_linear(x, matrix.dequantized(x.dtype), ends)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight = ctx.matrix.dequantized(ctx.dtype)
        if ctx.ends is None:
            return grads[0] @ weight, None, None
        return grouped_linear(grads[0].contiguous(), weight.mT.contiguous(), ctx.ends), None, None


def _by_rows(weight: Tensor, quantized: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Codes and scales, some rows at a time: what is computed on the way is several times as large as the weights."""
    rows = weight.flatten(0, -2)
    step = max(1, AT_ONCE // rows.shape[1])
    codes, scales = zip(*(quantized(rows[begin : begin + step]) for begin in range(0, len(rows), step)), strict=True)
    return _joined(codes).view(*weight.shape[:-1], -1), _joined(scales).view(*weight.shape[:-1], -1)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """One below the other."""
    rows = sum(len(part) for part in parts)
    return torch.cat(list(parts), out=ask_for_huge_pages(parts[0].new_empty(rows, parts[0].shape[1])))


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    wide = weight.float()
    scales = wide.abs().amax(-1, keepdim=True) / 127.0
    _refuse_infinite(scales)
    return (wide / scales.masked_fill(scales == 0, 1.0)).round_().clamp_(-127, 127).to(torch.int8), scales


def _to_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    missing = -weight.shape[-1] % NF4_BLOCK
    blocks = F.pad(weight.float(), (0, missing)).unflatten(-1, (-1, NF4_BLOCK))
    scales = blocks.abs().amax(-1).half()
    _refuse_infinite(scales)
    wide = scales.float()
    values = torch.tensor(NF4, device=weight.device)
    borders = (values[1:] + values[:-1]) / 2
    if kernels.can_run(blocks, wide, dtype=torch.float32):
        return kernels.nf4_codes(blocks, wide, borders).flatten(-2), scales
    codes = torch.bucketize(blocks / wide.masked_fill(wide == 0, 1.0)[..., None], borders, out_int32=True).to(torch.uint8)
    high, low = codes.flatten(-2).unflatten(-1, (-1, 2)).unbind(-1)
    return high << 4 | low, scales


def _refuse_infinite(scales: Tensor) -> None:
    if not scales.is_meta and not bool(scales.isfinite().all()):
        raise CheckpointError(
            "a weight is not finite, or too large to be quantized",
            remedy="hold the model as it is (without --quantize, lora.base_format: full)",
        )


@cache
def _pairs(device: torch.device) -> Tensor:
    """The two weights of every byte.  [256, 2]"""
    values = torch.tensor(NF4, device=device)
    return torch.stack([values.repeat_interleave(16), values.repeat(16)], dim=1)
