"""Learning-rate schedules: pure functions of the progress of a run, or of a step within a phase.  -> factor of the peak rate."""

from __future__ import annotations

import math
from dataclasses import replace

from beichen.errors import SettingsError
from beichen.train.optimizer_settings import ScheduleSettings
from beichen.train.source_settings import RateSettings


def rate_factor(settings: ScheduleSettings, progress: float, *, step: int = 0) -> float:
    """Warm up linearly over the first ``warmup`` (or ``warmup_steps``), then follow the named course down to ``final``."""
    progress = min(max(progress, 0.0), 1.0)
    if settings.warmup_steps is not None:
        warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    else:
        warm = min(1.0, (progress + 1e-3) / settings.warmup) if settings.warmup > 0 else 1.0
    return warm * (settings.final + (1.0 - settings.final) * _course(settings, progress))


def in_shares(settings: ScheduleSettings, steps: int | None) -> ScheduleSettings:
    """The same course with the lengths that are given in steps as shares of ``steps``, the whole run's, if they are known beforehand.

    Else a course falls from the beginning on, below the warmup. Raises SettingsError for a decay that cannot be placed.
    """
    warmup, decay = settings.warmup, settings.decay
    if settings.warmup_steps is not None:
        warmup = 0.0 if steps is None else min(1.0, settings.warmup_steps / steps)
    if settings.decay_steps is not None:
        if steps is None:
            raise SettingsError(
                f"schedule.decay_steps={settings.decay_steps}: how many steps a run of so many minutes has is not known beforehand",
                remedy="give schedule.decay as a share, or a budget in steps, tokens, epochs or samples",
            )
        decay = min(1.0, settings.decay_steps / steps)
    return replace(settings, warmup=warmup, decay=decay)


def _course(settings: ScheduleSettings, progress: float) -> float:
    """1 at the peak, 0 at the end."""
    match settings.name:
        case "constant":
            return 1.0
        case "stable":
            return min(1.0, (1.0 - progress) / settings.decay) if settings.decay > 0 else 1.0
        case _:
            left = 1.0 - max(0.0, progress - settings.warmup) / max(1e-9, 1.0 - settings.warmup)
            return left if settings.name == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)


def phase_factor(settings: RateSettings, step: int, steps: int) -> float:
    """The factor of a phase's step: from ``begin`` in its first step to ``end`` in its last, below that while it warms up."""
    progress = step / max(1, steps - 1)
    left = 1.0 - progress if settings.course == "linear" else 0.5 + 0.5 * math.cos(math.pi * progress)
    warm = min(1.0, (step + 1) / (settings.warmup * steps)) if settings.warmup > 0 else 1.0
    return warm * (settings.end + (settings.begin - settings.end) * left)
