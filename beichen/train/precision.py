"""Which number format a run computes in, and the loss scale that float16 needs.

float32: everything. bfloat16: computation, beside float32 master weights (or alone: optimizer.master_weights). float16, on accelerators:
computation, beside float32 master weights; its range is narrow, so losses are multiplied by a factor that keeps gradients inside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beichen.errors import DeviceError
from beichen.util.device import choose_dtype

SMALLEST, LARGEST = 2.0**-24, 2.0**24
GROW_AFTER = 200  # finite steps


def training_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """As ``choose_dtype``; refuses float16 on the CPU."""
    dtype = choose_dtype(name, device)
    if dtype == torch.float16 and device.type == "cpu":
        raise DeviceError(
            "dtype=float16: on a CPU it is slower than float32 and loses small gradients, so no run trains in it there",
            remedy="bfloat16 or float32, or a device with float16 products",
        )
    return dtype


class LossScale:
    """The factor of the loss: halved when gradients overflow, doubled after ``GROW_AFTER`` finite steps."""

    def __init__(self) -> None:
        self.state = torch.tensor([16.0, 0.0], dtype=torch.float64)  # the factor, finite steps since it changed

    @property
    def factor(self) -> float:
        return float(self.state[0])

    def grow(self) -> None:
        """A step was finite."""
        self.state[1] += 1
        if self.state[1] >= GROW_AFTER and self.factor < LARGEST:
            self._change(2.0)

    def lower(self) -> bool:
        """Gradients were not finite.  -> False where the factor cannot be to blame any more"""
        if self.factor <= SMALLEST:
            return False
        self._change(0.5)
        return True

    def _change(self, factor: float) -> None:
        changed: Tensor = torch.stack((self.state[0] * factor, torch.zeros((), dtype=torch.float64)))
        self.state.copy_(changed)
