"""Choosing the next id: pure functions on logits [rows, vocab] float32, each with one value per row.

Filters put -inf where an id may not be chosen; ids of equal logits stay or go together, so results do not depend on the order
in which a sort leaves ties. Random numbers are keyed by (seed of the request, index of the new token): what runs in the
neighbouring rows, and when, changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from beichen.inference.api import SamplingSettings

FIRST_LOOK = 256  # top-p looks at so many of the likeliest ids first, and sorts the whole vocabulary only for rows that need more


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Logits of ids in ``seen`` [rows, vocab] bool: positive ones divided by ``penalty`` [rows], negative ones multiplied."""
    factor = penalty[:, None]
    return torch.where(seen, torch.where(logits > 0, logits / factor, logits * factor), logits)


def keep_top_k(logits: Tensor, top_k: Tensor) -> Tensor:
    """Keep the ``top_k`` [rows] likeliest ids of each row."""
    ranked = logits.topk(int(top_k.max())).values
    return logits.masked_fill(logits < ranked.gather(1, top_k[:, None] - 1), -torch.inf)


def keep_top_p(logits: Tensor, top_p: Tensor) -> Tensor:
    """Keep the smallest set of likeliest ids whose mass reaches ``top_p`` [rows]; 1 keeps all."""
    total = logits.logsumexp(1, keepdim=True)
    threshold = torch.full_like(total, -torch.inf)
    open_rows = (top_p < 1.0).nonzero()[:, 0]
    for width in (FIRST_LOOK, logits.shape[1]):
        if not len(open_rows):
            break
        ranked = logits[open_rows].topk(min(width, logits.shape[1])).values
        mass = (ranked - total[open_rows]).double().exp().cumsum(1)
        wanted = top_p[open_rows, None].double()
        before = torch.nn.functional.pad(mass[:, :-1], (1, 0))  # mass of all likelier ids
        last = ((before < wanted).sum(1, keepdim=True) - 1).clamp(min=0)
        threshold[open_rows] = ranked.gather(1, last)
        open_rows = open_rows[mass[:, -1] < wanted[:, 0]]
    return logits.masked_fill(logits < threshold, -torch.inf)


def keep_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Keep ids that are at least ``min_p`` [rows] times as likely as the likeliest."""
    return logits.masked_fill(logits < logits.amax(1, keepdim=True) + min_p.log()[:, None], -torch.inf)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """The id at which the cumulated probability passes ``uniform`` [rows] in [0, 1).  -> [rows]"""
    cumulated = logits.double().softmax(1).cumsum(1)
    total = cumulated[:, -1:]
    target = (uniform.double()[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulated, target, right=True)[:, 0]


def uniform_numbers(seeds: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """One number in [0, 1) per (seed, index), uint64 arrays: SplitMix64 of the index in the stream of the hashed seed."""
    state = _mix(seeds) + indices * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class Sampler:
    """The settings of a batch, one value per row, ready for every step."""

    def __init__(self, settings: Sequence[SamplingSettings], *, vocab_size: int, device: torch.device) -> None:
        self.vocab_size = vocab_size
        self.seeds = np.array([secrets.randbits(64) if one.seed is None else one.seed % 2**64 for one in settings], dtype=np.uint64)

        def column(values: list[float] | list[int]) -> Tensor:
            return torch.tensor(values, device=device)

        self.temperature = column([one.temperature for one in settings]).float()
        self.top_k = column([min(one.top_k or vocab_size, vocab_size) for one in settings])
        self.top_p = column([1.0 if one.top_p is None else one.top_p for one in settings]).double()
        self.min_p = column([one.min_p or 0.0 for one in settings]).float()
        self.penalty = column([one.repetition_penalty for one in settings]).float()
        self.seen: Tensor | None = None
        if any(one.repetition_penalty != 1.0 for one in settings):
            self.seen = torch.zeros(len(settings), vocab_size, dtype=torch.bool, device=device)
        self._look()

    def note_prompt(self, row: int, ids: Sequence[int]) -> None:
        """Remember a prompt for the repetition penalty."""
        if self.seen is not None:
            known = torch.as_tensor(ids, device=self.seen.device)
            self.seen[row, known[known < self.vocab_size]] = True

    def note(self, ids: Tensor) -> None:
        """Remember the ids [rows] that were chosen."""
        if self.seen is not None:
            self.seen.scatter_(1, ids[:, None], True)

    def pick(self, logits: Tensor, index: int) -> Tensor:
        """The next ids [rows] from logits [rows, vocab]; ``index`` counts the new tokens of these requests from 0."""
        if self.seen is not None:
            logits = penalize_repetition(logits, self.seen, self.penalty)
        if self._all_greedy:
            return logits.argmax(1)
        chosen = logits.argmax(1)
        rows = self._drawn_rows
        scores = logits[rows] / self.temperature[rows, None]
        if self._has_top_k:
            scores = keep_top_k(scores, self.top_k[rows])
        if self._has_top_p:
            scores = keep_top_p(scores, self.top_p[rows])
        if self._has_min_p:
            scores = keep_min_p(scores, self.min_p[rows])
        numbers = uniform_numbers(self.seeds[rows.cpu().numpy()], np.full(len(rows), index, dtype=np.uint64))
        chosen[rows] = draw(scores, torch.from_numpy(numbers).to(logits.device))
        return chosen

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        for name in ("temperature", "top_k", "top_p", "min_p", "penalty"):
            setattr(self, name, getattr(self, name)[rows])
        self.seeds = self.seeds[rows.cpu().numpy()]
        self.seen = None if self.seen is None else self.seen[rows]
        self._look()

    def _look(self) -> None:
        """Which rules are on at all; asked once, so that a step costs only what it needs."""
        drawn = self.temperature > 0
        self._drawn_rows = drawn.nonzero()[:, 0]
        self._all_greedy = not len(self._drawn_rows)
        self._has_top_k = bool((self.top_k[drawn] < self.vocab_size).any())
        self._has_top_p = bool((self.top_p[drawn] < 1.0).any())
        self._has_min_p = bool((self.min_p[drawn] > 0.0).any())
