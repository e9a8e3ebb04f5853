"""``Evaluator``: held-out loss and a few answers while a run goes on; the best model so far is kept, and a run that gets no better ends.

In: the run's parts after a step. Out: a record in the metrics, ``best/`` where asked, and whether to end. Rule: it changes nothing that the
next step computes with, so a run with evaluations and one without give the same weights.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from beichen.errors import SettingsError
from beichen.nn.decoder import Decoder
from beichen.text.tokenizer import Tokenizer
from beichen.train.answers import greedy_answers
from beichen.train.evaluation_settings import EvaluationSettings
from beichen.train.held_out import HeldOut
from beichen.train.loop_state import LoopState
from beichen.train.metrics import MetricsLog
from beichen.util.progress import Reporter

MeasureHeldOut = Callable[[], Mapping[str, HeldOut]]  # by source; empty where nothing is held out


class Evaluator:
    """Called after every step."""

    def __init__(
        self, settings: EvaluationSettings, decoder: Decoder, tokenizer: Tokenizer, *, held_out: MeasureHeldOut, chat: bool,
        keep_best: Callable[[], None], weights: Callable[[], AbstractContextManager[object]], metrics: MetricsLog, reporter: Reporter,
    ) -> None:  # fmt: skip
        """chat: prompts are answered as a user's turn. keep_best: stores the model as it is now. weights: within it the
        decoder holds what the run would end with (averaged weights, where they are asked for)."""
        self._settings, self._decoder, self._tokenizer, self._chat = settings, decoder, tokenizer, chat
        self._held_out, self._keep_best, self._weights = held_out, keep_best, weights
        self._metrics, self._reporter = metrics, reporter

    def __call__(self, state: LoopState) -> bool:
        """Evaluate if it is time.  -> whether the run is to end"""
        settings = self._settings
        if settings.every_steps is None or state.step % settings.every_steps:
            return False
        with self._weights():
            return self._evaluate(state)

    def _evaluate(self, state: LoopState) -> bool:
        settings, by_source = self._settings, self._held_out()
        figures: dict[str, Any] = {name: scored.as_dict() for name, scored in by_source.items()}
        answers = self.answers()
        self._metrics.add(step=state.step, held_out=figures, answers=answers)
        if not by_source:
            if settings.keep_best or settings.patience is not None:
                raise SettingsError(
                    "evaluation: nothing is held out, so there is no best model", remedy="give data.held_out_fraction above 0"
                )
            return False
        whole = functools.reduce(operator.add, by_source.values())
        better = state.best_loss is None or whole.loss < state.best_loss
        state.note_held_out(whole.loss)
        best = "" if better else f" (best {state.best_loss:.4f} at step {state.best_step})"
        self._reporter.line(f"step {state.step}: held-out {whole.as_text()}{best}")
        if better and settings.keep_best:
            self._keep_best()
        ends = settings.patience is not None and state.worse_in_a_row >= settings.patience
        if ends:
            self._reporter.line(f"no better for {state.worse_in_a_row} evaluations: the run ends")
        return ends

    def answers(self) -> dict[str, str]:
        """What the model says now, by prompt."""
        settings = self._settings
        said = greedy_answers(self._decoder, self._tokenizer, settings.prompts, tokens=settings.answer_tokens, chat=self._chat)
        return dict(zip(settings.prompts, said, strict=True))
