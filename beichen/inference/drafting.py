"""Guesses of what comes next, so that the model checks several ids in the pass that would have given one.

In: the ids of sequences. Out: drafts, and after the model's pass what of them stays, by the rules of ``speculation``. Rule kept: an
answer is what the model alone would give: the same ids where it is greedy, the same distribution where it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.inference.sampling import SampledRow, Sampler
from beichen.inference.sequence import Sequence as Text
from beichen.inference.speculation import accept, propose, uniforms_for

UNLUCKY = 0.25  # a share of guesses that held below which they cost more than they bring (measured: a step of five ids takes two of one)
PROBE = 16  # then a guess is tried once in so many ids
MEMORY = 0.7  # of the share, from one guess to the next


class Drafter(Protocol):
    """Whoever guesses."""

    def draft(self, texts: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[int]]:
        """Up to ``counts[row]`` ids that may follow ``texts[row]``, prompt and answer so far."""


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """Who guesses, and how much."""

    drafter: Drafter
    tokens: int = 4  # a draft
    most_rows: int = 4  # with more sequences at once, reading the weights is not what takes the time, and nobody guesses

    def __post_init__(self) -> None:
        for name in ("tokens", "most_rows"):
            if getattr(self, name) < 1:
                raise SettingsError(f"drafting.{name}={getattr(self, name)}: expected 1 or more")

    def guess(self, texts: Sequence[Text], spare: Callable[[Text, int], int]) -> list[list[int]] | None:
        """What may follow each of them; None where nobody has a guess, or where guessing does not pay. spare: for how many columns beyond
        its ids a text has room, of so many."""
        if not 0 < len(texts) <= self.most_rows:
            return None
        counts = [
            0 if one.row.history_matters else spare(one, min(self.length(one.luck, len(one.ids)), one.length - len(one.ids) - 1))
            for one in texts
        ]
        drafts = self.drafter.draft([one.ids for one in texts], counts)
        return drafts if any(drafts) else None

    def length(self, luck: float, place: int) -> int:
        """How many ids to guess for a text of ``place`` ids, of whose guesses lately this share held: checking ids is not for nothing."""
        if luck < UNLUCKY:
            return min(self.tokens, 2) if place % PROBE == 0 else 0
        return max(1, round(self.tokens * luck))


def later_luck(luck: float, *, drafted: int, held: int) -> float:
    """The share of guesses that held lately, after one more of so many ids."""
    return MEMORY * luck + (1 - MEMORY) * held / drafted


class TextDrafter:
    """Says again what followed the last time that the text stood at such words: for answers that repeat their prompt or themselves."""

    def draft(self, texts: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[int]]:
        return [propose(text, count, shortest=2) if count else [] for text, count in zip(texts, counts, strict=True)]


def settle(logits: Tensor, drafts: Sequence[Sequence[int]], rows: Sequence[SampledRow], sampler: Sampler) -> list[list[int]]:
    """The ids that come next: of each draft the beginning that stays, and one id behind it.

    logits [places, vocab]: of each row one place more than its draft has ids, row after row. A row whose history matters has no draft.
    """
    starts = [0]
    for draft in drafts:
        starts.append(starts[-1] + len(draft) + 1)
    chosen: list[list[int]] = [[] for _ in rows]
    plain = [number for number, draft in enumerate(drafts) if not draft]
    if plain:
        picked = sampler.pick(logits[[starts[number] for number in plain]], [rows[number] for number in plain]).tolist()
        for number, token in zip(plain, picked, strict=True):
            chosen[number] = [token]
    drawn = [number for number, draft in enumerate(drafts) if draft and rows[number].request.sampling.temperature > 0]
    likeliest = logits.argmax(1).tolist() if len(drawn) + len(plain) < len(rows) else []
    for number, draft in enumerate(drafts):
        if draft and number not in drawn:
            chosen[number] = _greedy(draft, likeliest[starts[number] : starts[number + 1]])
    for number in drawn:
        places = slice(starts[number], starts[number + 1])
        chosen[number] = _drawn(logits[places], drafts[number], rows[number], sampler)
    return chosen


def _greedy(draft: Sequence[int], likeliest: list[int]) -> list[int]:
    kept = next((place for place, token in enumerate(draft) if token != likeliest[place]), len(draft))
    return likeliest[: kept + 1]


def _drawn(logits: Tensor, draft: Sequence[int], row: SampledRow, sampler: Sampler) -> list[int]:
    places = len(draft) + 1
    chances = sampler.probabilities(logits, [row] * places)
    ids = torch.tensor([list(draft)], device=logits.device)
    uniforms = uniforms_for([row], places).to(logits.device)
    accepted, following = accept(ids, None, chances[None], uniforms)
    return [*draft[: int(accepted)], int(following)]
