"""Whether the gradients of a step may move the weights: never when something is not finite, and not at a spike if spikes are watched.

In: the loss and the gradient norm of a step, and the losses before it. Out: what is wrong with them, if anything is, and what follows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from beichen.errors import SettingsError

_NORMAL = 1.4826  # a normal distribution's deviation over its median absolute deviation


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """What is done about steps that would harm the weights. A step that is not finite is always left out.

    spike: a loss so many robust deviations (see ``spike_score``) above the last ``window`` ones rolls the run back to its last saved state,
        and the batches of the spike and of ``leave_out`` steps before it are not trained again; absent: losses may rise as they like.
    patience: the run ends after so many faulty steps in a row.
    """

    spike: float | None = None
    window: int = 64
    leave_out: int = 0
    patience: int = 5

    def __post_init__(self) -> None:
        if self.spike is not None and self.spike <= 0:
            raise SettingsError(f"guards.spike={self.spike:g}: must be above 0")
        if not 8 <= self.window <= 256:
            raise SettingsError(f"guards.window={self.window}: must be at least 8, for a median, and at most 256")
        if self.leave_out < 0 or self.patience < 1:
            raise SettingsError(f"guards: leave_out={self.leave_out} must not be below 0, patience={self.patience} must be at least 1")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a step, and what follows: it is left out, or the run goes back to its last saved state."""

    reason: str
    remedy: Literal["skip", "roll back"]


def judge(settings: GuardSettings, *, loss: float, gradient_norm: float, recent: Sequence[float]) -> Fault | None:
    """``recent``: losses of the last steps that were taken, oldest first."""
    if not math.isfinite(loss):
        return Fault(f"the loss is {loss}", "skip")
    if not math.isfinite(gradient_norm):
        return Fault(f"the gradient norm is {gradient_norm}", "skip")
    if settings.spike is not None and len(recent) >= settings.window:
        score = spike_score(loss, recent[-settings.window :])
        if score > settings.spike:
            return Fault(f"the loss {loss:.4f} lies {score:.1f} robust deviations above the last {settings.window}", "roll back")
    return None


def spike_score(loss: float, recent: Sequence[float]) -> float:
    """How far a loss lies above the median of others, in deviations that a few outliers do not move: 1.4826 x median |loss - median|."""
    middle = statistics.median(recent)
    deviation = _NORMAL * statistics.median(abs(value - middle) for value in recent)
    return (loss - middle) / max(deviation, 1e-6 * abs(middle), 1e-12)
