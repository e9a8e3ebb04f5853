"""What a mixture and its curriculum are set by: sources with weights, phases, and the course of the learning rate in each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from beichen.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """One source of a mixture.

    weight: how often one epoch of the mixture takes each document, or the source's share (data.weigh_by).
    """

    name: str
    files: tuple[str, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise SettingsError(f"name={self.name!r}: must be usable as the name of a folder")
        if not self.files:
            raise SettingsError(f"files: source '{self.name}' has none")
        check_weight("weight", self.weight)


@dataclass(frozen=True, kw_only=True)
class RateSettings:
    """The learning rate within a phase, as factors of the optimizer's rates: from ``begin`` to ``end``, constant where they are equal.

    warmup: share of the phase over which the rate first rises linearly from 0.
    """

    course: Literal["linear", "cosine"] = "linear"
    begin: float = 1.0
    end: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        for key in ("begin", "end"):
            if not 0.0 <= getattr(self, key) < math.inf:
                raise SettingsError(f"{key}={getattr(self, key)}: must not be below 0")
        if not 0.0 <= self.warmup <= 1.0:
            raise SettingsError(f"warmup={self.warmup}: must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class PhaseSettings:
    """One phase of a curriculum; it goes on with every source where the phase before left it.

    until_tokens: where it ends, counted in positions of rows from the run's beginning.
    weights: by source, as in data.weigh_by; sources that are not named rest; null: the weights of data.sources.
    grades: lowest and highest grade of the documents it takes, by name of the grade.
    """

    name: str
    until_tokens: int
    weights: dict[str, float] | None = None
    grades: dict[str, tuple[float, float]] = field(default_factory=dict)
    sequence_length: int | None = None  # null: data.sequence_length; longer rows are fewer in a step, so that its tokens stay the same
    rate: RateSettings | None = None  # all phases or none; null: the schedule section, over the whole run

    def __post_init__(self) -> None:
        if self.until_tokens < 1:
            raise SettingsError(f"until_tokens={self.until_tokens}: must be at least 1")
        if self.sequence_length is not None and self.sequence_length < 2:
            raise SettingsError(f"sequence_length={self.sequence_length}: must be at least 2 tokens")
        if self.weights is not None and not self.weights:
            raise SettingsError(f"weights: phase '{self.name}' names no source")
        for source, weight in (self.weights or {}).items():
            check_weight(f"weights: {source}", weight)
        for grade, (lowest, highest) in self.grades.items():
            if not lowest <= highest:
                raise SettingsError(f"grades: {grade} from {lowest} to {highest}: no document can have that")


def check_weight(key: str, weight: float) -> None:
    if not 0.0 < weight < math.inf:
        raise SettingsError(f"{key}={weight}: must be above 0; leave the source out instead")


def check_sources(sources: tuple[SourceSettings, ...], phases: tuple[PhaseSettings, ...], *, all_named: bool) -> None:
    """Refuses names that are used twice or not known, phases that do not follow one another, and rates given to some phases only.

    ``all_named``: there are no sources but these.
    """
    names = [source.name for source in sources]
    for key, given in (("sources", names), ("phases", [phase.name for phase in phases])):
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise SettingsError(f"{key}: '{twice[0]}' is the name of two")
    done = 0
    for phase in phases:
        if phase.until_tokens <= done:
            raise SettingsError(f"phases: '{phase.name}' ends at {phase.until_tokens} tokens, where the one before had ended at {done}")
        done = phase.until_tokens
        for source in phase.weights or {}:
            if all_named and source not in names:
                raise SettingsError(f"phases: '{phase.name}' names source '{source}'; data.sources has {', '.join(names) or 'none'}")
    if len({phase.rate is None for phase in phases}) > 1:
        raise SettingsError("phases: some have a rate and some have none: give one to every phase, or the schedule section to all")
