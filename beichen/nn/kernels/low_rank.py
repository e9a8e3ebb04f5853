"""Low-rank updates of a few rows on the CPU, without gradients: one call for all parts of a layer, or a place in ``DecoderStep``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn.kernels import build


class _Part(ctypes.Structure):
    """``UpdatePart`` of source/low_rank.h."""

    _fields_ = (
        ("up", ctypes.c_void_p), ("begin", ctypes.c_long), ("width", ctypes.c_long), ("rank", ctypes.c_long), ("scale", ctypes.c_float),
        ("factors", ctypes.c_void_p), ("bias", ctypes.c_void_p),
    )  # fmt: skip


class _Update(ctypes.Structure):
    """``Update`` of source/low_rank.h."""

    _fields_ = (("a", ctypes.c_void_p), ("parts", ctypes.c_void_p), ("count", ctypes.c_long), ("ranks", ctypes.c_long))


class _Rows(ctypes.Structure):
    """``UpdatedRows`` of source/low_rank.h."""

    _fields_ = (("begin", ctypes.c_long), ("end", ctypes.c_long), ("updates", ctypes.c_void_p))


class FewRowUpdate:
    """out += scale x A^T B^T over some of its columns. Holds copies and addresses: make a new one after the weights moved."""

    def __init__(
        self, a: Tensor, ups: Sequence[Tensor], begins: Sequence[int], scales: Sequence[float], *,
        factors: Tensor | None = None, bias: Tensor | None = None,
    ) -> None:  # fmt: skip
        """a [ranks, K]: the parts' matrices below one another; ups: B [width, rank] of each part; begins: its first column.

        factors [N] float32: by which all of its columns but the layer's bias [N] are multiplied in the end (DoRA).
        """
        build.require(a, *ups)
        build.require(factors, dtype=torch.float32)
        ranks = [up.shape[1] for up in ups]
        if sum(ranks) != len(a):
            raise ValueError(f"A {tuple(a.shape)} does not fit ranks {ranks}")
        self.inner, self.end = a.shape[1], max(begin + len(up) for begin, up in zip(begins, ups, strict=True))
        downs = a.detach() if not any(rank % 2 for rank in ranks) else torch.cat([_even(down) for down in a.detach().split(ranks)])
        words = [_panels(up.detach()) for up in ups]
        bias = None if factors is None or bias is None else bias.detach()
        build.require(bias)
        parts = (_Part * len(words))(
            *(
                _Part(panels.data_ptr(), begin, len(up), 2 * panels.shape[1], scale, _at(factors, begin), _at(bias, begin))
                for panels, up, begin, scale in zip(words, ups, begins, scales, strict=True)
            )
        )
        self._kept = (downs, words, parts, factors, bias)
        self._update = _Update(downs.data_ptr(), ctypes.addressof(parts), len(parts), len(downs))
        self.address = ctypes.addressof(self._update)

    def fits(self, inner: int, outer: int) -> bool:
        """Whether it may move a layer [outer, inner]."""
        return inner == self.inner and outer >= self.end

    @torch.no_grad()
    def add(self, x: Tensor, out: Tensor) -> None:
        """x [..., K] bf16, out [..., N] bf16, which is overwritten."""
        build.require(x, out)
        inner, outer = x.shape[-1], out.shape[-1]
        if not self.fits(inner, outer) or x.numel() // inner != out.numel() // outer:
            raise ValueError(f"x {tuple(x.shape)} and out {tuple(out.shape)} do not fit an update of {self.end} columns from {self.inner}")
        build.function("low_rank_add", "ppp lll i")(
            self.address, x.data_ptr(), out.data_ptr(), x.numel() // inner, inner, outer, torch.get_num_threads()
        )


class StepAdapter:
    """One adapter as ``DecoderStep`` takes it: what it does to each matrix of each layer in turn, None where it leaves one alone."""

    def __init__(self, updates: Sequence[FewRowUpdate | None]) -> None:
        self._kept = tuple(updates)
        self._pointers = (ctypes.c_void_p * len(updates))(*(None if one is None else one.address for one in updates))
        self.address = ctypes.addressof(self._pointers)


AdaptedRows = tuple[int, int, StepAdapter]  # begin, end, what they carry


def rows_of(adapted: Sequence[AdaptedRows], rows: int) -> ctypes.Array[_Rows] | None:
    """For a call; the adapters must outlive it."""
    ends = [place for begin, end, _ in adapted for place in (begin, end)]
    if ends != sorted(ends) or (ends and not 0 <= ends[0] <= ends[-1] <= rows):
        raise ValueError(f"adapted rows overlap, are out of order or outside of {rows}: {[span[:2] for span in adapted]}")
    return (_Rows * len(adapted))(*(_Rows(begin, end, one.address) for begin, end, one in adapted)) if adapted else None


def _even(rows: Tensor) -> Tensor:
    """A row of zeros more where their number is odd."""
    return F.pad(rows, (0, 0, 0, len(rows) % 2))


def _panels(up: Tensor) -> Tensor:
    """B in the order in which it is read.  [width, rank] -> [panels of 16 columns, rank / 2, 16, 2]"""
    width, rank = up.shape
    return F.pad(up, (0, rank % 2, 0, -width % 16)).unflatten(1, (-1, 2)).unflatten(0, (-1, 16)).transpose(1, 2).contiguous()


def _at(vector: Tensor | None, place: int) -> int | None:
    return None if vector is None else vector[place:].data_ptr()
