"""How weights move: the optimizer, its groups of parameters, and the course of the learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from beichen.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class GroupSettings:
    """Parameters with settings of their own, by a pattern over names (``*`` stands for anything): 'layers.0.*', '*.router.weight'.

    null: as for the others. The first group that fits a parameter counts.
    """

    parameters: str
    learning_rate: float | None = None
    weight_decay: float | None = None  # of its matrices

    def __post_init__(self) -> None:
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise SettingsError(f"learning_rate={self.learning_rate}: group '{self.parameters}' needs one above 0")
        if self.weight_decay is not None and self.weight_decay < 0:
            raise SettingsError(f"weight_decay={self.weight_decay}: that of group '{self.parameters}' must not be below 0")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """``adamw`` for everything, or ``muon`` for the matrices of the layers with AdamW for embedding, head and vectors.

    Learning rates are peaks, multiplied by the schedule. Weight decay acts on matrices only, never on norms and biases.
    master_weights: float32 copies of weights of another format, which are what moves; false (bfloat16 only): weights and moments are
    bfloat16 alone and rounded at random, right on average.
    average_decay: keeps a moving average of the weights, of which this share stays at each step (less in the first steps: of step n
    at most (n + 1) / (n + 10)). result: which of the two is evaluated and saved at the end.
    """

    name: Literal["adamw", "muon"] = "muon"
    learning_rate: float = 3e-3  # AdamW: vectors, and all matrices when ``name`` is adamw
    matrix_learning_rate: float = 0.02  # Muon
    embedding_learning_rate: float = 0.01  # AdamW, with Muon
    head_learning_rate: float = 0.003  # AdamW, with Muon
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    momentum: float = 0.95  # Muon
    weight_decay: float = 0.0
    clip_norm: float = 1.0  # 0 turns clipping off
    groups: tuple[GroupSettings, ...] = ()
    master_weights: bool = True
    average_decay: float | None = None
    result: Literal["weights", "average"] = "weights"

    def __post_init__(self) -> None:
        for key in ("learning_rate", "matrix_learning_rate", "embedding_learning_rate", "head_learning_rate"):
            if getattr(self, key) <= 0:
                raise SettingsError(f"optimizer.{key}={getattr(self, key)}: must be above 0")
        for key in ("beta1", "beta2", "momentum", "average_decay"):
            if not 0.0 <= (getattr(self, key) or 0.0) < 1.0:
                raise SettingsError(f"optimizer.{key}={getattr(self, key)}: must be at least 0 and below 1")
        for key in ("epsilon", "weight_decay", "clip_norm"):
            if getattr(self, key) < 0:
                raise SettingsError(f"optimizer.{key}={getattr(self, key)}: must not be below 0")
        if self.result == "average" and self.average_decay is None:
            raise SettingsError("optimizer.result=average: there is none without optimizer.average_decay")

    @property
    def peak_rate(self) -> float:
        """Of the matrices of the layers: the rate that a run is known by."""
        return self.matrix_learning_rate if self.name == "muon" else self.learning_rate


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The learning rate's course over the run: a factor of the optimizer's rates, 1 at the peak; in shares of the budget (0 to 1).

    The budget's kind says what a share is one of: steps, tokens, minutes, epochs or rows. ``linear`` and ``cosine`` fall from the end of
    the warmup; ``stable`` (warmup, stable, decay) holds the peak and falls linearly over the last ``decay``; ``constant`` stays.
    warmup_steps, decay_steps, warmup_tokens, decay_tokens: so many steps or tokens in place of the share; a decay so given needs a budget
    whose steps are known beforehand.
    """

    name: Literal["constant", "linear", "cosine", "stable"] = "stable"
    warmup: float = 0.02
    warmup_steps: int | None = None
    warmup_tokens: int | None = None  # positions that ran through the decoder, padding excluded
    decay: float = 0.5
    decay_steps: int | None = None
    decay_tokens: int | None = None  # of full rows
    final: float = 0.0  # factor at the very end

    def __post_init__(self) -> None:
        for key in ("warmup", "decay", "final"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise SettingsError(f"schedule.{key}={getattr(self, key)}: must lie between 0 and 1")
        for key in ("warmup_steps", "decay_steps", "warmup_tokens", "decay_tokens"):
            if (getattr(self, key) or 0) < 0:
                raise SettingsError(f"schedule.{key}={getattr(self, key)}: must not be below 0")
        for key in ("warmup", "decay"):
            if getattr(self, f"{key}_steps") is not None and getattr(self, f"{key}_tokens") is not None:
                raise SettingsError(f"schedule: {key}_steps and {key}_tokens both say how long the {key} is; give one of them")
