"""``EncodeSettings``: what decides the bytes of encoded text, beside the files and the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from beichen.data.minhash import Level
from beichen.data.store import SHARD_TOKENS
from beichen.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """What decides the bytes of the outcome."""

    duplicates: Level = "none"
    threshold: float = 0.8  # of the 5-grams that near duplicates share
    benchmarks: tuple[str, ...] = ()
    grades: bool = False
    held_out_fraction: float = 0.05
    shard_tokens: int = SHARD_TOKENS
    part: tuple[int, int] = (1, 1)  # this one of so many

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out_fraction < 1.0:
            raise SettingsError(f"held_out_fraction {self.held_out_fraction}: must be at least 0 and below 1")
        if not 0.0 < self.threshold <= 1.0:
            raise SettingsError(f"threshold {self.threshold}: must be above 0 and at most 1")
        if self.shard_tokens < 1:
            raise SettingsError(f"shard_tokens {self.shard_tokens}: must be at least 1")
        if not 1 <= self.part[0] <= self.part[1]:
            raise SettingsError(f"part {self.part[0]}/{self.part[1]}: must be i/n with i from 1 to n")


DEFAULT_SETTINGS = EncodeSettings()
