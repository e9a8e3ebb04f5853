"""``Pool``: which items of several sources each pass holds, and in which order; numbers only, no text.

A part is what is walked together: the items of a source, or those of it that a curriculum treats alike. Each part is an endless
walk, lap after lap, each lap in a random order of its own; a weight of 2.0 moves it on by two laps in a pass, 0.5 by half a lap. So
halves are without replacement, and after any passes no item of a part was visited more than once more than another. Within a pass the
walks are merged evenly: any beginning of a pass holds each part's tokens in proportion, give or take one item.

Rule: what a pass holds follows from (seed, number of the pass) alone. A pool may begin where another ended (``starts``), and may
end within a pass (``ending``): that is how the phases of a curriculum go on with a source where the phase before left it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from beichen.data.order import permutation
from beichen.errors import SettingsError
from beichen.util.random import keyed_generator


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Items that are walked together."""

    name: str  # tells its walk from others
    source: int  # number of the source they belong to
    items: np.ndarray  # [items] their numbers in that source
    lengths: np.ndarray  # [items] tokens of each

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    def walk(self, seed: int, first: int, last: int) -> np.ndarray:
        """Places (in ``items``) of the walk's steps ``first`` to ``last - 1``."""
        laps, places = np.divmod(np.arange(first, last), self.count)
        met = np.empty(len(laps), np.int64)
        for lap in np.unique(laps):
            here = laps == lap
            met[here] = permutation(seed, f"walk of {self.name}", int(lap), self.count)[places[here]]
        return met

    def tokens_until(self, seed: int, step: int) -> int:
        """Tokens of the walk's first ``step`` steps."""
        laps, rest = divmod(step, self.count)
        return laps * self.tokens + int(self.lengths[self.walk(seed, step - rest, step)].sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """Items in the order of one pass."""

    source: np.ndarray  # [items] int32
    item: np.ndarray  # [items] int64, number in its source
    length: np.ndarray  # [items] int64, tokens
    part: np.ndarray  # [items] int32, which part of the pool it comes from

    def __len__(self) -> int:
        return len(self.item)

    def first(self, count: int) -> Pass:
        """Its first items."""
        return Pass(source=self.source[:count], item=self.item[:count], length=self.length[:count], part=self.part[:count])


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Parts, how many laps a pass makes over each, and where each walk begins."""

    parts: Sequence[Part]
    weights: Sequence[float]
    seed: int
    starts: Sequence[int] = field(default=())  # steps of each walk that were made before; empty: none
    last_pass: tuple[int, int] | None = None  # (number of the pass within which the pool ends, items of it)

    def __post_init__(self) -> None:
        if not self.parts or len(self.weights) != len(self.parts):
            raise SettingsError(f"a pool of {len(self.parts)} parts got {len(self.weights)} weights: give one for each")
        for part, weight in zip(self.parts, self.weights, strict=True):
            if not (math.isfinite(weight) and weight > 0):
                raise SettingsError(f"{part.name}: weight {weight}: must be above 0", remedy="leave the source out instead")
        if max(weight * part.count for part, weight in zip(self.parts, self.weights, strict=True)) < 1:
            raise SettingsError("a pass over this mixture would hold less than one item", remedy="raise the weights")

    @property
    def is_steady(self) -> bool:
        """Whether every whole pass holds the same items (all weights whole)."""
        return all(float(weight).is_integer() for weight in self.weights)

    @property
    def tokens_per_pass(self) -> float:
        """Expected tokens of a whole pass."""
        return sum(part.tokens * weight for part, weight in zip(self.parts, self.weights, strict=True))

    def laps(self, number: int) -> list[tuple[int, int]]:
        """(first, last) steps of each part's walk in a whole pass; pass n + 1 begins where pass n ends."""
        starts = self.starts or [0] * len(self.parts)
        counts = [(weight * part.count, start) for part, weight, start in zip(self.parts, self.weights, starts, strict=True)]
        return [(start + math.floor(number * steps), start + math.floor((number + 1) * steps)) for steps, start in counts]

    def draw(self, number: int) -> Pass:
        """The items of a pass, in order."""
        generator = keyed_generator(self.seed, "merge of walks", number)
        drawn, places = [], []
        for index, (part, (first, last)) in enumerate(zip(self.parts, self.laps(number), strict=True)):
            met, count = part.walk(self.seed, first, last), last - first
            lengths = part.lengths[met]
            passed = np.cumsum(lengths) - lengths * generator.random(count)  # ascending: a walk keeps its order
            places.append(passed / (part.tokens * self.weights[index]))
            drawn.append((np.full(count, part.source, np.int32), part.items[met], lengths, np.full(count, index, np.int32)))
        order = np.argsort(np.concatenate(places), kind="stable")
        source, item, length, which = (np.concatenate(columns)[order] for columns in zip(*drawn, strict=True))
        whole = Pass(source=source, item=item.astype(np.int64), length=length.astype(np.int64), part=which)
        ends_here = self.last_pass is not None and self.last_pass[0] == number
        return whole.first(self.last_pass[1]) if self.last_pass is not None and ends_here else whole

    def ending(self, number: int, tokens: int) -> Pool:
        """The same pool, ended within this pass by the item with which it has so many tokens (or by the pass's end)."""
        length = self.draw(number).length
        needed = int(np.searchsorted(np.cumsum(length), tokens, side="left")) + 1
        return replace(self, last_pass=(number, min(needed, len(length))))

    def reached(self) -> list[int]:
        """Where each part's walk stands at the end of a pool that has one: the ``starts`` of what follows."""
        if self.last_pass is None:
            raise ValueError("this pool has no end")
        begins = [first for first, _ in self.laps(self.last_pass[0])]
        met = np.bincount(self.draw(self.last_pass[0]).part, minlength=len(self.parts))
        return [begin + int(count) for begin, count in zip(begins, met, strict=True)]
