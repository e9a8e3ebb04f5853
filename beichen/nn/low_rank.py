"""Low-rank updates of one linear layer (LoRA, DoRA): y = x (W + scale B A)^T, W staying as it is.

Our layers are fused (queries, keys and values; gate and up), so a layer carries several adapters, each for a range of its rows. Their A
stand stacked in one matrix: one product for all of them. A layer without an update does not know that this file exists; with one, it
hands over what it computed. B begins at zero and magnitudes at the norms of W's rows, so that an update begins as none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels
from beichen.nn.grouped import group_of_rows, grouped_linear
from beichen.nn.linear_layer import LinearLayer


@dataclass(frozen=True)
class Part:
    """One adapter: the rows of the layer that it moves, its rank, and what its product is multiplied by."""

    begin: int
    end: int
    rank: int
    scale: float


class LowRank(nn.Module):
    """The adapters of one linear layer, or of a stack of them (one for each expert). A is left uninitialised."""

    def __init__(
        self, in_features: int, out_features: int, parts: Sequence[Part], *, experts: int | None = None, dropout: float = 0.0,
        magnitudes: bool = False, dtype: torch.dtype | None = None, device: torch.device | None = None,
    ) -> None:  # fmt: skip
        """magnitudes: DoRA, the length of every row is learnt apart from its direction; kept in float32."""
        super().__init__()
        if any(before.end > after.begin for before, after in pairwise(parts)):
            raise ValueError(f"parts overlap or are out of order: {parts}")
        self.out_features, self.parts, self.experts, self.dropout = out_features, tuple(parts), experts, dropout
        lead = () if experts is None else (experts,)
        widths = [part.end - part.begin for part in parts]
        self.a = nn.Parameter(torch.empty(*lead, sum(part.rank for part in parts), in_features, dtype=dtype, device=device))
        self.b = nn.ParameterList(
            torch.zeros(*lead, width, part.rank, dtype=dtype, device=device) for width, part in zip(widths, parts, strict=True)
        )
        flat = [(experts or 1) * width for width in widths]  # vectors: weight decay leaves them alone
        self.magnitudes = nn.ParameterList(torch.ones(size, device=device) for size in flat) if magnitudes else None
        self._settled: Tensor | None = None
        self._few_rows: kernels.FewRowUpdate | None = None

    def forward(self, x: Tensor, out: Tensor, layer: LinearLayer, ends: Tensor | None = None) -> Tensor:
        """x [..., in] and what the layer made of it, ``out`` [..., out], which may be overwritten.  -> [..., out]

        ends: of a stack, where each expert's rows end (see ``grouped_linear``); the layer's bias is then not yet added.
        """
        if self._few_rows is not None and kernels.can_run_few_rows(x, self.a) and out.is_contiguous():
            self._few_rows.add(x, out)
            return out
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
        if ends is None and self.magnitudes is None:
            moved: Tensor = _InPlace.apply(out, dropped, self.parts, self.a, *self.b)
            return moved
        update = self.update(dropped, ends)
        if self.magnitudes is None:
            return out + update
        factors = self.row_factors(layer.full_weight()) if self._settled is None else self._settled
        bias = layer.bias if ends is None else None
        if ends is not None:
            factors = factors[group_of_rows(ends, len(x))]
        straight = out if bias is None else out - bias
        return out + ((factors - 1.0) * straight + factors * update).type_as(out)

    def update(self, x: Tensor, ends: Tensor | None = None) -> Tensor:
        """scale x A^T B^T, zero on rows that no part moves.  [..., in] -> [..., out]"""
        inner = F.linear(x, self.a) if ends is None else grouped_linear(x, self.a, ends)
        pieces = []
        for part, columns, b in zip(self.parts, self._columns(), self.b, strict=True):
            chosen = inner[..., columns]
            pieces.append(part.scale * (F.linear(chosen, b) if ends is None else grouped_linear(chosen.contiguous(), b, ends)))
        return self._spread(pieces, 0.0)

    def row_factors(self, weight: Tensor) -> Tensor:
        """DoRA: magnitude / ||row of W + scale B A||, the norm taken as a constant; 1 where no part is.  [..., out, in] -> [..., out]"""
        assert self.magnitudes is not None
        pieces = []
        for part, a, b, magnitude in zip(self.parts, self._down(), self.b, self.magnitudes, strict=True):
            norms = _row_norms(weight[..., part.begin : part.end, :], a, b, part.scale)
            pieces.append(magnitude.view(norms.shape) / norms)
        return self._spread(pieces, 1.0)

    @torch.no_grad()
    def settle(self, layer: LinearLayer) -> None:
        """From now on neither the layer's weights nor the update's will change: DoRA's lengths are looked up, not computed each time, and
        few rows may go through a kernel."""
        self._settled, self._few_rows = None if self.magnitudes is None else self.row_factors(layer.full_weight()), None
        self._few_rows = self.for_few_rows(layer)

    @torch.no_grad()
    def for_few_rows(self, layer: LinearLayer) -> kernels.FewRowUpdate | None:
        """The update as it is now, for kernels; None where they cannot run it."""
        if self._few_rows is not None:
            return self._few_rows
        if self.experts is not None or (self.training and self.dropout) or not kernels.can_run(self.a, *self.b, layer.bias):
            return None
        factors = self.row_factors(layer.full_weight()) if self.magnitudes is not None and self._settled is None else self._settled
        begins, scales = zip(*((part.begin, part.scale) for part in self.parts), strict=True)
        return kernels.FewRowUpdate(self.a, list(self.b), begins, scales, factors=factors, bias=layer.bias)

    @torch.no_grad()
    def begin_at(self, weight: Tensor) -> None:
        """Magnitudes as they are without an update; needed once A is set, and before B is."""
        for part, a, b, magnitude in zip(self.parts, self._down(), self.b, self.magnitudes or (), strict=False):
            magnitude.copy_(_row_norms(weight[..., part.begin : part.end, :], a, b, part.scale).flatten())

    @torch.no_grad()
    def folded(self, weight: Tensor) -> Tensor:
        """The one matrix that does what W and the update do together, in float32.  [..., out, in] -> the same"""
        wide = weight.float().clone()
        for part, a, b in zip(self.parts, self._down(), self.b, strict=True):
            wide[..., part.begin : part.end, :] += part.scale * (b.float() @ a.float())
        return wide if self.magnitudes is None else wide * self.row_factors(weight)[..., None]

    def columns_of(self, part: int) -> slice:
        """Which rows of A are those of a part."""
        return list(self._columns())[part]

    def _columns(self) -> Iterator[slice]:
        begin = 0
        for part in self.parts:
            yield slice(begin, begin + part.rank)
            begin += part.rank

    def _down(self) -> list[Tensor]:
        return [self.a[..., columns, :] for columns in self._columns()]

    def _spread(self, pieces: Sequence[Tensor], fill: float) -> Tensor:
        """One value for each of the layer's rows, in the last dimension."""
        whole, done = [], 0
        for part, piece in zip(self.parts, pieces, strict=True):
            whole += [piece.new_full((*piece.shape[:-1], part.begin - done), fill), piece]
            done = part.end
        return torch.cat([*whole, pieces[-1].new_full((*pieces[-1].shape[:-1], self.out_features - done), fill)], dim=-1)


@torch.no_grad()
def _row_norms(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Lengths of the rows of W + scale B A without making it, float32.  [..., n, in] -> [..., n]"""
    weight, a, b = weight.float(), a.float(), b.float()
    squares = weight.square().sum(-1) + scale * (b * (2.0 * (weight @ a.mT) + scale * (b @ (a @ a.mT)))).sum(-1)
    return squares.clamp(min=torch.finfo(torch.float32).tiny).sqrt()


class _InPlace(torch.autograd.Function):
    """out += scale x A^T B^T over each part's rows; nothing of the layer's size is made."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, parts: tuple[Part, ...], a: Tensor, *b: Tensor) -> Tensor:
        rows, flat = x.reshape(-1, x.shape[-1]), out.view(-1, out.shape[-1])
        inner = rows @ a.T
        for part, chosen, up in zip(parts, inner.split([part.rank for part in parts], dim=1), b, strict=True):
            flat[:, part.begin : part.end].addmm_(chosen, up.T, alpha=part.scale)
        ctx.mark_dirty(out)
        ctx.save_for_backward(rows, inner, a, *b)
        ctx.parts, ctx.shape = parts, x.shape
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, inner, a, *b = ctx.saved_tensors
        parts, flat = ctx.parts, grads[0].reshape(-1, grads[0].shape[-1])
        d_inner, d_b = torch.empty_like(inner), []
        sizes = [part.rank for part in parts]
        for part, chosen, d_chosen, up in zip(parts, inner.split(sizes, dim=1), d_inner.split(sizes, dim=1), b, strict=True):
            moved = flat[:, part.begin : part.end]
            d_chosen.copy_(moved @ up).mul_(part.scale)
            d_b.append((moved.T @ chosen).mul_(part.scale))
        d_x = (d_inner @ a).view(ctx.shape) if ctx.needs_input_grad[1] else None
        return grads[0], d_x, None, d_inner.T @ rows, *d_b
