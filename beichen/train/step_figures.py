"""``StepFigures``: everything that metrics.jsonl says of one step.

In: what the step gathered, how long it took, how far the run is. Out: one record. Speeds are of this step alone, counts of the whole
run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from beichen.train.loop_state import LoopState
from beichen.train.step import Gathered
from beichen.util.memory import resident_bytes


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """What does not change from step to step."""

    learning_rate: float  # at the schedule's peak: of the matrices of the layers
    flops_per_token: float
    steps_per_epoch: float
    matmul_peak: float | None = None  # GFLOP/s of this machine; None: it was not measured
    tokens_per_byte: float | None = None  # of the text that is read; None: no plain text

    def record(self, state: LoopState, gathered: Gathered, *, rate_factor: float, gradient_norm: float, seconds: float) -> dict[str, Any]:
        """``state``: this step counted already."""
        speed = gathered.tokens / seconds
        gflops = speed * self.flops_per_token / 1e9
        found = {
            "step": state.step,
            **gathered.as_dict(),
            "rate_factor": rate_factor,
            "learning_rate": rate_factor * self.learning_rate,
            "gradient_norm": gradient_norm,
            "tokens": state.tokens,
            "targets": state.targets,
            "epoch": round(state.step / self.steps_per_epoch, 6),
            "seconds": round(state.seconds, 3),
            "tokens_per_second": round(speed, 1),
            "gflops": round(gflops, 2),
            "memory_bytes": used_memory(),
        }
        if self.matmul_peak is not None:
            found["share_of_peak"] = round(gflops / self.matmul_peak, 4)
        if self.tokens_per_byte is not None:
            found["bits_per_byte"] = gathered.loss / math.log(2) * self.tokens_per_byte
        return found


def used_memory() -> int:
    """Bytes: the accelerator's peak so far where there is one, else what this process holds now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resident_bytes()
