"""Choosing the next ids of many requests at once; rows join and leave at every step.

In: logits [rows, vocab] float32 and the rows they belong to. Out: ids [rows]. A ``SampledRow`` is all that sampling remembers of a
request; the ``Sampler`` keeps only the columns of the rows that ran last. Rule: what a row gets depends on its own logits, settings
and history, never on its neighbours; and only rows that ask for more than a temperature and filters cost more.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.inference.api import Request
from beichen.inference.drawing import draw, uniform_numbers
from beichen.inference.filters import keep_min_p, keep_top_k, keep_top_p, penalize
from beichen.util.random import keyed_seed

LEAST_TEMPERATURE = 1e-6  # smaller ones draw the same, and would divide by what float32 holds as 0


class ConstraintState(Protocol):
    """Where one answer stands in what it must become (``inference/constraints.py``)."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end the answer; allowed only where it may end."""

    @property
    def fault(self) -> SettingsError | None:
        """Why it cannot be followed any longer; then only an end is allowed."""

    def allowed(self) -> np.ndarray:
        """Which ids may come next, bool [ids of the tokenizer]; at least one."""

    def note(self, token: int) -> None:
        """The id that came."""


class SampledRow:
    """What sampling knows of one answer: made once, kept while the request lives, also while it does not run."""

    def __init__(self, request: Request, *, vocab_size: int, constraint: ConstraintState | None = None, number: int = 0) -> None:
        """vocab_size: ids that may be chosen. number: which of several answers to this request; each has a seed of its own, made from
        the request's, which the first keeps."""
        check_ids(request, vocab_size)
        sampling = request.sampling
        self.request, self.vocab_size, self.constraint = request, vocab_size, constraint
        self.index = 0  # new tokens so far
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        self.seed = (keyed_seed(seed, "answer", number) if number else seed) % 2**64
        self.stop_ids: tuple[int, ...] = tuple(request.stop_ids) if constraint is None else constraint.end_ids
        self.penalized = bool(
            sampling.repetition_penalty != 1.0 or sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias
        )
        self._entries = _Entries(request, vocab_size) if self.penalized else None

    def note(self, token: int) -> None:
        """The id that was chosen."""
        self.index += 1
        if self._entries is not None:
            self._entries.note(token)
        if self.constraint is not None:
            self.constraint.note(token)

    @property
    def fault(self) -> SettingsError | None:
        """Why this answer cannot go on as it was asked for; its neighbours can."""
        return None if self.constraint is None else self.constraint.fault

    @property
    def history_matters(self) -> bool:
        """Whether the next choice depends on more of the answer than its logits: such a row cannot look several tokens ahead."""
        return self.penalized or self.constraint is not None or self.index < self.request.min_new_tokens

    @property
    def entries(self) -> np.ndarray:
        """Ids whose logits change [4, entries]: id, times in the answer, whether it was there at all, bias."""
        assert self._entries is not None, "a row without penalties and bias"
        return self._entries.table


class _Entries:
    """The ids of one row whose logits change: those of its prompt and answer, as far as its penalties ask, and those with a bias."""

    def __init__(self, request: Request, vocab_size: int) -> None:
        self._place: dict[int, int] = {}
        self._table = np.zeros((4, 64))
        if request.sampling.repetition_penalty != 1.0:
            for token in request.prompt_ids:
                if token < vocab_size:
                    self._entry(token)[2] = 1.0
        for token, bias in request.sampling.logit_bias.items():
            self._entry(token)[3] = bias

    @property
    def table(self) -> np.ndarray:
        return self._table[:, : len(self._place)]

    def note(self, token: int) -> None:
        entry = self._entry(token)
        entry[1] += 1.0
        entry[2] = 1.0

    def _entry(self, token: int) -> np.ndarray:
        """The column of an id, made where there is none; it holds until the next one is made."""
        place = self._place.setdefault(token, len(self._place))
        if place == self._table.shape[1]:
            self._table = np.pad(self._table, ((0, 0), (0, place)))
        self._table[0, place] = token
        return self._table[:, place]


def check_ids(request: Request, vocab_size: int) -> None:
    """Refuse settings that name ids which cannot be chosen."""
    for token in request.sampling.logit_bias:
        if token >= vocab_size:
            raise SettingsError(f"logit_bias={{{token}: ...}}: this model's ids go from 0 to {vocab_size - 1}", field="logit_bias")


class Sampler:
    """Picks for whatever rows run; their settings become columns when the list of rows changes, and stay until it does again."""

    def __init__(self, *, vocab_size: int, device: torch.device) -> None:
        self.vocab_size, self.device = vocab_size, device
        self._rows: list[SampledRow] = []
        self._look()

    def pick(self, logits: Tensor, rows: Sequence[SampledRow]) -> Tensor:
        """The next ids [rows] from logits [rows, vocab] float32, which stay as they are; ``note`` them afterwards."""
        logits = self._ready(logits, rows)
        if self._drawn is None:
            return logits.argmax(1)
        numbers = torch.from_numpy(uniform_numbers(self._seeds, self._indices())).to(self.device)
        if self._all_drawn:
            return draw(self._filtered(logits), numbers)
        chosen = logits.argmax(1)
        chosen[self._drawn] = draw(self._filtered(logits[self._drawn]), numbers)
        return chosen

    def probabilities(self, logits: Tensor, rows: Sequence[SampledRow]) -> Tensor:
        """What ``pick`` draws from [rows, vocab]; of a row at temperature 0 all stands on its likeliest id. The same row may come several
        times, with logits of several places, as long as its history does not matter."""
        logits = self._ready(logits, rows)
        chances = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
        if self._drawn is not None:
            chances[self._drawn] = self._filtered(logits[self._drawn]).softmax(1)
        return chances

    def _ready(self, logits: Tensor, rows: Sequence[SampledRow]) -> Tensor:
        """Logits after penalties, with -inf where an id must not come."""
        if list(rows) != self._rows:  # by identity
            self._rows = list(rows)
            self._look()
        if self._restrained:
            logits = logits.clone()
            self._penalize(logits)
            self._forbid(logits)
        return logits

    def _look(self) -> None:
        """The columns of the rows; and which rules are on at all, so that a step costs only what it needs."""
        rows, vocab = self._rows, self.vocab_size
        settings = [row.request.sampling for row in rows]
        drawn = [number for number, one in enumerate(settings) if one.temperature > 0]
        self._all_drawn = len(drawn) == len(rows)
        self._drawn = torch.tensor(drawn, device=self.device) if drawn else None
        self._drawn_rows = [rows[number] for number in drawn]
        self._seeds = np.array([row.seed for row in self._drawn_rows], dtype=np.uint64)
        chosen = [settings[number] for number in drawn]

        def column(values: list[float] | list[int], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=self.device)

        self._temperature = column([max(one.temperature, LEAST_TEMPERATURE) for one in chosen], torch.float32)[:, None]
        self._top_k = column([min(one.top_k or vocab, vocab) for one in chosen], torch.int64) if any(one.top_k for one in chosen) else None
        self._top_p = (
            column([1.0 if one.top_p is None else one.top_p for one in chosen], torch.float64)
            if any(one.top_p is not None and one.top_p < 1 for one in chosen) else None
        )  # fmt: skip
        self._min_p = column([one.min_p or 0.0 for one in chosen], torch.float32) if any(one.min_p for one in chosen) else None
        self._penalized = [number for number, row in enumerate(rows) if row.penalized]
        self._constrained = [number for number, row in enumerate(rows) if row.constraint is not None]
        self._lasting = [number for number, row in enumerate(rows) if row.request.min_new_tokens and row.stop_ids]
        self._restrained = bool(self._penalized or self._constrained or self._lasting)

    def _indices(self) -> np.ndarray:
        return np.array([row.index for row in self._drawn_rows], dtype=np.uint64)

    def _filtered(self, logits: Tensor) -> Tensor:
        """Logits of the drawn rows after temperature and filters."""
        logits = logits / self._temperature
        if self._top_k is not None:
            logits = keep_top_k(logits, self._top_k)
        if self._top_p is not None:
            logits = keep_top_p(logits, self._top_p)
        if self._min_p is not None:
            logits = keep_min_p(logits, self._min_p)
        return logits

    def _penalize(self, logits: Tensor) -> None:
        """All entries of all rows that have some, at once."""
        if not self._penalized:
            return
        tables = [self._rows[number].entries for number in self._penalized]
        sizes = [table.shape[1] for table in tables]
        settings = [self._rows[number].request.sampling for number in self._penalized]
        strengths = np.array([[one.repetition_penalty, one.presence_penalty, one.frequency_penalty] for one in settings]).T
        of_row = np.repeat(np.array(self._penalized), sizes)
        flat = np.concatenate([np.concatenate(tables, axis=1), np.repeat(strengths, sizes, axis=1)])
        places = torch.from_numpy(np.stack([of_row, flat[0].astype(np.int64)])).to(self.device)
        counts, seen, bias, repetition, presence, frequency = torch.from_numpy(flat[1:].astype(np.float32)).to(self.device)
        repetition = torch.where(seen > 0, repetition, torch.ones_like(repetition))
        values = penalize(logits[places[0], places[1]], counts, repetition=repetition, presence=presence, frequency=frequency)
        logits[places[0], places[1]] = values + bias

    def _forbid(self, logits: Tensor) -> None:
        """-inf where a constraint or the shortest length forbids an id; where both leave nothing, the answer may end."""
        masks: dict[int, np.ndarray] = {}
        for number in self._constrained:
            constraint = self._rows[number].constraint
            assert constraint is not None
            masks[number] = constraint.allowed()[: self.vocab_size]
        for number in self._lasting:
            row = self._rows[number]
            if row.index >= row.request.min_new_tokens:
                continue
            ends = [token for token in row.stop_ids if token < self.vocab_size]
            if number not in masks:
                logits[number, ends] = -torch.inf
                continue
            going_on = masks[number].copy()
            going_on[ends] = False
            if going_on.any():
                masks[number] = going_on
        if masks:
            numbers = torch.tensor(list(masks), device=self.device)
            allowed = torch.from_numpy(np.stack(list(masks.values()))).to(self.device)
            logits[numbers] = logits[numbers].masked_fill(~allowed, -torch.inf)
