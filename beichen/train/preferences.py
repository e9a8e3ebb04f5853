"""What a preference run has besides other runs: its objective, with the reference behind it, and its held-out margin.

In: a recipe whose data are preferences, its decoder with the weights that it begins from, all documents. The model as the run begins is the
reference, so what held-out pairs said before training is known without scoring them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from beichen.data.preference_tokens import PreferenceTokens
from beichen.nn.decoder import Decoder
from beichen.objectives.registry import preference_objective
from beichen.objectives.types import Objective
from beichen.train.preparation import Parts
from beichen.train.reference import reference_log_probabilities, score_documents
from beichen.train.settings import TrainRecipe
from beichen.util.progress import Reporter

REFERENCE = "reference/log_probabilities.safetensors"


@dataclass(frozen=True, kw_only=True)
class PreferenceTraining:
    """The reference of a run, and what follows from it."""

    recipe: TrainRecipe
    tokens: PreferenceTokens
    reference: Tensor  # [documents] float32

    @property
    def objective(self) -> Objective:
        return preference_objective(self.recipe.preference, self.reference)

    def held_out(self, decoder: Decoder, reporter: Reporter) -> dict[str, dict[str, float]] | None:
        """Figures of the held-out units before and after training; None where nothing was held out."""
        tokens, data = self.tokens, self.recipe.data
        units = np.flatnonzero(tokens.held_out)
        if not len(units):
            return None
        documents = np.stack((2 * units, 2 * units + 1), axis=1).ravel() if tokens.good is None else 2 * units
        now = score_documents(
            decoder, tokens, documents, sequence_length=data.sequence_length, rows=self.recipe.batch.rows_per_micro_batch,
            label="held-out preferences", reporter=reporter,
        )  # fmt: skip
        before = self.reference.cpu().numpy()[documents]
        good = np.tile([True, False], len(units)) if tokens.good is None else tokens.good[units]
        settings = self.recipe.preference
        if settings.per_token:
            now, before = now / tokens.targets[documents], before / tokens.targets[documents]
        return {
            state: preference_figures(given, before, good, beta=settings.beta, paired=tokens.good is None)
            for state, given in (("before", before), ("after", now))
        }


def begin_preferences(recipe: TrainRecipe, parts: Parts, folder: Path, *, begun: bool, reporter: Reporter) -> PreferenceTraining:
    """The reference is the decoder as it is now: called before the weights of a run that goes on are restored (``begun``: it does)."""
    tokens = parts.material.preferences
    if tokens is None:
        raise RuntimeError("preferences are trained on material that holds them")
    reference = reference_log_probabilities(
        parts.decoder, tokens, file=folder / REFERENCE, tokenizer=parts.tokenizer.fingerprint, begun=begun, reporter=reporter,
        sequence_length=recipe.data.sequence_length, rows=recipe.batch.rows_per_micro_batch,
    )  # fmt: skip
    return PreferenceTraining(recipe=recipe, tokens=tokens, reference=reference.to(parts.decoder.device))


def preference_figures(now: np.ndarray, before: np.ndarray, good: np.ndarray, *, beta: float, paired: bool) -> dict[str, float]:
    """margin: mean reward of better answers less that of worse ones; accuracy: share of pairs in which it is above 0; log_odds and
    prefers: the same of the model's own log-probabilities, without the reference.

    now, before [answers]: log-probabilities under the model and under the reference; of pairs, the better answer first.
    """
    reward = beta * (now - before)
    if not paired:
        return {"units": len(now), "margin": _mean(reward[good]) - _mean(reward[~good])}
    margin, odds = reward[0::2] - reward[1::2], now[0::2] - now[1::2]
    return {
        "units": len(margin), "margin": _mean(margin), "accuracy": _mean(margin > 0), "log_odds": _mean(odds), "prefers": _mean(odds > 0)
    }  # fmt: skip


def preferences_as_text(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Held-out figures for people."""
    before, after = figures["before"], figures["after"]
    text = f"margin of {after['units']:,} held-out preferences {after['margin']:+.3f}"
    if "accuracy" not in after:
        return text
    return (
        f"{text}, accuracy {after['accuracy']:.1%}; chosen answers more likely by {before['log_odds']:+.1f} nats before,"
        f" {after['log_odds']:+.1f} after"
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
