"""What all kinds of linear layers have in common: plain or quantized, one or a stack of them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class LinearLayer(Protocol):
    """What naming, adapting, merging and stepping ask of a linear layer, or of a stack of them (one for each expert)."""

    adapter: nn.Module | None
    bias: nn.Parameter | None  # [out] or [experts, out]
    held_as: str | None  # how its weights are quantized; None: as they are

    @property
    def shape(self) -> torch.Size:
        """[out, in] or [experts, out, in]"""

    def full_weight(self) -> Tensor:
        """The weights, without the adapter: themselves, or dequantized to float32."""
