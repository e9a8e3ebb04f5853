"""The plan of the main job: how large a model, in which number format, for how long; from what the machine was measured to do.

In: the matmul peaks and the minutes of training. Out: a frozen ``Plan`` and sentences that say what was chosen and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FULL_PEAK = 300.0  # GFLOP/s from which the full plan is used
BUNDLED_MINUTES = 10.4  # training time when the package's own text and dialogues are used


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Widths of a small TeleChat2-architecture decoder."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int


FULL = ModelSize(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=704)
SMALL = ModelSize(hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=512)
TINY = ModelSize(hidden_size=128, num_hidden_layers=4, num_attention_heads=2, intermediate_size=352)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the quickstart will do."""

    size: ModelSize
    dtype: Literal["float32", "bfloat16"]
    matmul_peak_gflops: float  # of the chosen format
    pretraining_minutes: float
    fine_tuning_minutes: float
    vocab_size: int
    sequence_length: int
    reasons: tuple[str, ...]


def make_plan(
    *,
    float32_peak: float,
    bfloat16_peak: float,
    minutes: float,
    bundled: bool,
    with_dialogues: bool,
    dtype: Literal["float32", "bfloat16"] | None = None,
) -> Plan:
    """Choose format and size for peaks in GFLOP/s and ``minutes`` of training in all; ``dtype`` is a format that was asked for.

    bundled: the package's own data, whose dialogues matter more than its text. with_dialogues: whether there is a second stage.
    """
    if dtype is None:
        dtype = "bfloat16" if bfloat16_peak > 1.3 * float32_peak else "float32"
    peak = bfloat16_peak if dtype == "bfloat16" else float32_peak
    reasons = [f"computing in {dtype}: matmul peak {peak:.0f} GFLOP/s here (float32 {float32_peak:.0f}, bfloat16 {bfloat16_peak:.0f})"]
    work = peak * minutes / (FULL_PEAK * BUNDLED_MINUTES)
    size = FULL
    if work < 0.15:
        size = TINY
    elif work < 0.6:
        size = SMALL
    if size is not FULL:
        reasons.append(
            f"the plan shrinks to hidden size {size.hidden_size}: {peak:.0f} GFLOP/s for {minutes:g} min is {work:.0%} "
            "of what the full plan needs; expect lower scores"
        )
    share = (0.3 if bundled else 0.7) if with_dialogues else 1.0
    return Plan(
        size=size, dtype=dtype, matmul_peak_gflops=peak, pretraining_minutes=minutes * share, fine_tuning_minutes=minutes * (1 - share),
        vocab_size=2048 if bundled else 8192, sequence_length=256 if bundled else 512, reasons=tuple(reasons),
    )  # fmt: skip
