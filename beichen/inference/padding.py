"""Where rows stand that are padded on the left, the right or both."""

from __future__ import annotations

import torch
from torch import Tensor

from beichen.errors import SettingsError


def interval_of(start: Tensor, stop: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """positions and first_visible [rows, n] of ``columns`` [n] where row r is real in ``start[r] .. stop[r] - 1``; padding sees itself."""
    real = (columns >= start[:, None]) & (columns < stop[:, None])
    positions = (columns - start[:, None]).clamp(min=0).minimum(stop[:, None] - start[:, None] - 1)
    first_visible = torch.where(real, start[:, None], columns).to(torch.int32)
    return positions, first_visible


def real_columns(mask: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """First real column and the column after the last, of every row; holes and empty rows are refused."""
    if mask.shape != input_ids.shape:
        raise SettingsError(f"attention_mask has the shape {list(mask.shape)}, ids have {list(input_ids.shape)}")
    real = mask.bool()
    count = real.sum(1)
    start = real.int().argmax(1)
    stop = start + count
    columns = torch.arange(mask.shape[1], device=mask.device)
    whole = (real == ((columns >= start[:, None]) & (columns < stop[:, None]))).all(1) & (count > 0)
    if not bool(whole.all()):
        row = int((~whole).nonzero()[0])
        raise SettingsError(
            f"attention_mask, row {row}: {'is empty' if not count[row] else 'has a hole'}",
            remedy="padding stands on the left or the right only",
        )
    return start, stop
