"""``TrainResult``: what a run reached."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from beichen.train.preferences import preferences_as_text
from beichen.train.run_folder import RESULT
from beichen.util.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run reached; the same stands in result.json."""

    folder: Path
    finished: bool
    steps: int
    tokens: int
    seconds: float  # of training
    tokens_per_second: float
    loss: float  # mean of the last steps, nats per target
    held_out_loss: float | None  # nats per token
    bits_per_byte: float | None
    parameters: int
    bits_per_byte_by_source: dict[str, float | None]  # empty for a single source
    best_step: int | None  # of the lowest held-out loss among the evaluations on the way
    preference: dict[str, dict[str, float]] | None = None  # held-out figures before and after, see train/preferences.py

    def as_text(self) -> str:
        """One line for people."""
        speed = f"{self.steps} steps, {self.tokens:,} tokens in {self.seconds / 60:.1f} min ({self.tokens_per_second:,.0f} tokens/s)"
        if self.preference is not None:
            return f"{speed}, {preferences_as_text(self.preference)}"
        return speed if self.bits_per_byte is None else f"{speed}, held-out {self.bits_per_byte:.4f} bits per byte"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The result that a finished run left in its folder."""
        return cls(**{**json.loads((folder / RESULT).read_text(encoding="utf-8")), "folder": folder})

    def save(self, folder: Path) -> None:
        write_atomically(folder / RESULT, json.dumps(self.as_dict(), indent=1) + "\n")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"folder": str(self.folder)}
