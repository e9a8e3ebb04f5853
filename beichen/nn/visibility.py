"""``Visibility``: what the queries of a pass see, in each of the forms that a way of computing attention takes.

Query column c of row r sees key columns ``first_visible[r, c] .. c``. A form is made when it is first asked for and kept for the other
layers of the pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from beichen.nn.documents import document_lengths


def visible(first_visible: Tensor, *, past: int, columns: int) -> Tensor:
    """[rows, tokens] of new queries, ``past`` columns before them -> bool [rows, 1, tokens, columns]: who sees whom."""
    key_column = torch.arange(columns, device=first_visible.device)
    query_column = past + torch.arange(first_visible.shape[1], device=first_visible.device)
    return ((key_column >= first_visible[:, :, None]) & (key_column <= query_column[:, None]))[:, None]


@dataclass(frozen=True)
class Ends:
    """The documents of all rows, one behind the other."""

    cumulative: Tensor  # [documents + 1] int32, from 0 to the number of positions
    longest: int


@dataclass(frozen=True, eq=False)
class Visibility:
    """first_visible [rows, tokens] int32, in columns."""

    first_visible: Tensor

    @cached_property
    def mask(self) -> Tensor:
        """bool [rows, 1, tokens, tokens]"""
        return visible(self.first_visible, past=0, columns=self.first_visible.shape[1])

    @cached_property
    def lengths(self) -> list[list[tuple[int, bool]]] | None:
        """``document_lengths``: on the CPU."""
        return document_lengths(self.first_visible)

    @cached_property
    def ends(self) -> Ends | None:
        """None where the intervals are no documents. On any device, which is asked once."""
        first_visible = self.first_visible
        columns = torch.arange(first_visible.shape[1], device=first_visible.device)
        begins = first_visible == columns
        own = torch.where(begins, columns, 0).cummax(1).values
        if not bool((begins[:, 0].all() & (own == first_visible).all()).item()):
            return None
        starts = begins.flatten().nonzero().flatten()
        cumulative = torch.cat((starts, starts.new_tensor([begins.numel()]))).int()
        return Ends(cumulative, int(cumulative.diff().max()))

    @cached_property
    def blocks(self) -> Any:
        """FlexAttention's block mask."""
        from torch.nn.attention.flex_attention import create_block_mask  # late: it loads the compiler

        first_visible = self.first_visible

        def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (key <= query) & (key >= first_visible[row, query])

        rows, tokens = first_visible.shape
        return create_block_mask(sees, rows, None, tokens, tokens, device=str(first_visible.device))
