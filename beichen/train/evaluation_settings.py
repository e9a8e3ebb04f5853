"""``EvaluationSettings``: what is looked at while a run goes on, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from beichen.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Held-out loss and answers to fixed prompts, every ``every_steps`` (absent: at the end alone).

    prompts: what the model goes on from, greedily, for ``answer_tokens``; of a chat model, what the user says.
    keep_best: the model of the lowest held-out loss so far stands in ``best/`` of the run's folder.
    patience: the run ends after so many evaluations without a lower held-out loss (early stopping).
    """

    every_steps: int | None = None
    prompts: tuple[str, ...] = ()
    answer_tokens: int = 48
    keep_best: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        for key in ("every_steps", "answer_tokens", "patience"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise SettingsError(f"evaluation.{key}={value}: must be at least 1")
        if self.every_steps is None and (self.keep_best or self.patience is not None):
            raise SettingsError(
                "evaluation: keep_best and patience follow from evaluations while the run goes on", remedy="give evaluation.every_steps"
            )
