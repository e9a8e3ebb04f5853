"""Low-rank updates of a few rows on the CPU, without gradients: one call for all parts of a layer."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from beichen.nn.kernels import build


class FewRowUpdate:
    """out += scale x A^T B^T over some of its columns. Holds copies and addresses: make a new one after the weights moved."""

    def __init__(self, a: Tensor, ups: Sequence[Tensor], begins: Sequence[int], scales: Sequence[float]) -> None:
        """a [ranks, K]: the parts' matrices below one another; ups: B [width, rank] of each part; begins: its first column."""
        build.require(a, *ups)
        if sum(up.shape[1] for up in ups) != len(a):
            raise ValueError(f"A {tuple(a.shape)} does not fit ranks {[up.shape[1] for up in ups]}")
        turned = [up.detach().T.contiguous() for up in ups]
        self._a, self._kept = a.detach(), turned
        self._end = max(begin + up.shape[0] for begin, up in zip(begins, ups, strict=True))
        self._ups = (ctypes.c_void_p * len(ups))(*(up.data_ptr() for up in turned))
        places = chain.from_iterable((begin, *up.shape) for begin, up in zip(begins, ups, strict=True))
        self._places = (ctypes.c_int64 * (3 * len(ups)))(*places)
        self._scales = (ctypes.c_float * len(ups))(*scales)

    @torch.no_grad()
    def add(self, x: Tensor, out: Tensor) -> None:
        """x [..., K] bf16, out [..., N] bf16, which is overwritten."""
        build.require(x, out)
        (ranks, inner), outer = self._a.shape, out.shape[-1]
        if x.shape[-1] != inner or outer < self._end or x.numel() // inner != out.numel() // outer:
            raise ValueError(f"x {tuple(x.shape)} and out {tuple(out.shape)} do not fit an update of {self._end} columns from {inner}")
        build.function("low_rank_add", "pppppp lllll i")(
            x.data_ptr(), self._a.data_ptr(), self._ups, self._places, self._scales, out.data_ptr(),
            x.numel() // inner, inner, ranks, len(self._kept), outer, torch.get_num_threads(),
        )  # fmt: skip
