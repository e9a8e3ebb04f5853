"""``PreferenceSettings``: which loss learns from preferences (``data.kind: preferences``), and how strongly the reference holds."""

from __future__ import annotations

from dataclasses import dataclass, fields

from beichen.errors import SettingsError, nearest
from beichen.objectives.registry import PREFERENCE_OBJECTIVES


@dataclass(frozen=True, kw_only=True)
class PreferenceSettings:
    """The loss, by the model's and the reference's log-probabilities of answers. The reference is the model as the run begins.

    kind: ``dpo`` or ``ipo`` of pairs; ``kto`` of single answers that are rated good or bad (a pair is one of each).
    beta: how strongly the model is held to the reference; of ipo, its tau.
    label_smoothing: share of pairs whose answers may be the wrong way round (dpo).
    sft_weight: what the mean loss of a token of the better answer counts beside.
    per_token: log-probabilities of answers are means over their tokens, not sums.
    good_weight, bad_weight: what good and bad answers count (kto); with weights times numbers of both about equal neither rules.
    """

    kind: str = "dpo"
    beta: float = 0.1
    label_smoothing: float = 0.0
    sft_weight: float = 0.0
    per_token: bool = False
    good_weight: float = 1.0
    bad_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in PREFERENCE_OBJECTIVES:
            known = ", ".join(PREFERENCE_OBJECTIVES)
            raise SettingsError(f"preference.kind: '{self.kind}' is not known{nearest(self.kind, PREFERENCE_OBJECTIVES)}; known: {known}")
        self._check_options()
        if self.beta <= 0:
            raise SettingsError(f"preference.beta={self.beta}: must be above 0")
        if not 0.0 <= self.label_smoothing < 0.5:
            raise SettingsError(f"preference.label_smoothing={self.label_smoothing}: must be at least 0 and below 0.5")
        if self.sft_weight < 0:
            raise SettingsError(f"preference.sft_weight={self.sft_weight}: must not be below 0")
        for key in ("good_weight", "bad_weight"):
            if getattr(self, key) <= 0:
                raise SettingsError(f"preference.{key}={getattr(self, key)}: must be above 0")

    def _check_options(self) -> None:
        """What is set is read by the objective."""
        for option in fields(self):
            readers = [name for name, known in PREFERENCE_OBJECTIVES.items() if option.name in known.options]
            if readers and self.kind not in readers and getattr(self, option.name) != option.default:
                raise SettingsError(
                    f"preference.{option.name}: {self.kind} has none",
                    remedy=f"leave it out, or choose preference.kind: {', '.join(readers)}",
                )

    @property
    def paired(self) -> bool:
        """Whether two answers are compared."""
        return PREFERENCE_OBJECTIVES[self.kind].paired
