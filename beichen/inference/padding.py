"""Where rows stand that are padded on the left, the right or both."""

from __future__ import annotations

import torch
from torch import Tensor


def interval_of(start: Tensor, stop: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """positions and first_visible [rows, n] of ``columns`` [n] where row r is real in ``start[r] .. stop[r] - 1``; padding sees itself."""
    real = (columns >= start[:, None]) & (columns < stop[:, None])
    positions = (columns - start[:, None]).clamp(min=0).minimum(stop[:, None] - start[:, None] - 1)
    first_visible = torch.where(real, start[:, None], columns).to(torch.int32)
    return positions, first_visible
