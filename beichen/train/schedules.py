"""Learning-rate schedules: pure functions of the progress of a run, or of a step within a phase.  -> factor of the peak rate."""

from __future__ import annotations

import math
from dataclasses import replace

from beichen.errors import SettingsError
from beichen.train.optimizer_settings import ScheduleSettings
from beichen.train.source_settings import RateSettings


def rate_factor(settings: ScheduleSettings, progress: float, *, step: int = 0, tokens: int = 0) -> float:
    """Warm up linearly over the first ``warmup`` (or its steps or tokens), then follow the named course down to ``final``.

    step: the number of the step, from 0; tokens: those of the run with this step.
    """
    progress = min(max(progress, 0.0), 1.0)
    if settings.warmup_steps is not None:
        warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    elif settings.warmup_tokens is not None:
        warm = min(1.0, tokens / settings.warmup_tokens) if settings.warmup_tokens else 1.0
    else:
        warm = min(1.0, (progress + 1e-3) / settings.warmup) if settings.warmup > 0 else 1.0
    return warm * (settings.final + (1.0 - settings.final) * _course(settings, progress))


def in_shares(settings: ScheduleSettings, steps: int | None, *, tokens_per_step: int) -> ScheduleSettings:
    """The same course with the lengths that are given in steps or tokens as shares of ``steps``, the whole run's, if they are known
    beforehand; else a course falls from the beginning on, below the warmup. Raises SettingsError for a decay that cannot be placed.
    """

    def share(key: str, usual: float) -> float | None:
        """None: it is given, and what it is a share of is not known."""
        in_steps, in_tokens = getattr(settings, f"{key}_steps"), getattr(settings, f"{key}_tokens")
        if in_steps is None and in_tokens is None:
            return usual
        if steps is None:
            return None
        return min(1.0, (in_tokens / tokens_per_step if in_steps is None else in_steps) / steps)

    warmup, decay = share("warmup", settings.warmup), share("decay", settings.decay)
    if decay is None:
        unit = "tokens" if settings.decay_steps is None else "steps"
        raise SettingsError(
            f"schedule.decay_{unit}={settings.decay_tokens if settings.decay_steps is None else settings.decay_steps}: "
            f"how many {unit} a run of so many minutes has is not known beforehand",
            remedy="give schedule.decay as a share, or a budget in steps, tokens, epochs or samples",
        )
    return replace(settings, warmup=warmup or 0.0, decay=decay)


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
