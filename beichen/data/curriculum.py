"""``plan_phases``: a list of phases to stretches of rows, each with its own weights, grades and row length.

In: token stores by name, phases. Out: ``Stretch``es. A phase admits the documents whose grades lie within its bounds, and walks their
pool (see ``pool``) until it has its rows, pass after pass. Documents that the same phases admit are walked together through all of
these: so a phase goes on with them where the one before stopped, and none comes a second time before all had their turn.

Rule: what a stretch holds follows from (seed, phases, stores) alone; a phase's length is counted in positions of rows, exact to a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from beichen.data.mixture import Mixture, check_stores, epochs_of_shares, part_of
from beichen.data.pool import Part, Pool
from beichen.data.rows import RowSource
from beichen.data.store import TokenStore
from beichen.errors import DataError

WeighBy = Literal["epochs", "shares"]
MakeRows = Callable[[Mixture, int], RowSource]  # (documents, sequence length)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What one stretch of a run reads."""

    name: str
    weights: Mapping[str, float]  # by source; the others rest
    sequence_length: int
    until_tokens: int | None = None  # where it ends, in positions of rows from the run's beginning; None: without end
    grades: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # lowest and highest, by name


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a stretch takes of one source; of a stretch without end, what one pass takes."""

    documents: int  # that it admits
    tokens: int  # that it takes
    epochs: float  # how often it takes each document that it admits, on average
    share: float  # of its tokens


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A phase with its rows."""

    phase: Phase
    rows: RowSource
    num_rows: int | None  # None: without end
    uses: Mapping[str, Use]

    @property
    def positions(self) -> int | None:
        return None if self.num_rows is None else self.num_rows * self.phase.sequence_length


def plan_phases(
    sources: Mapping[str, Sequence[TokenStore]], phases: Sequence[Phase], *, seed: int, make_rows: MakeRows, weigh_by: WeighBy = "epochs"
) -> list[Stretch]:  # fmt: skip
    """The phases as stretches, in order; a source may lie in several stores. Draws every pass of every phase once."""
    if len(phases) > 64:
        raise DataError(f"{len(phases)} phases: at most 64 are told apart", remedy="join some")
    names = [name for name, stores in sources.items() for _ in stores]  # of each store
    stores = [store for own in sources.values() for store in own]
    check_stores(stores)
    strata: dict[str, list[tuple[Part, set[int]]]] = {name: [] for name in sources}
    for number, (name, store) in enumerate(zip(names, stores, strict=True)):
        place = number - names.index(name)  # among the source's stores
        strata[name] += _strata(name, f"{name}, store {place}" if place else name, number, store, phases)
    walked: dict[str, int] = {}  # steps of each part's walk so far
    stretches, done = [], 0
    for number, phase in enumerate(phases):
        admitted = {name: [part for part, admits in strata[name] if number in admits] for name in phase.weights}
        for name, parts in admitted.items():
            if not parts:
                raise DataError(f"phase '{phase.name}': no document of source '{name}' has the grades it asks for", remedy=_grades(phase))
        weights = _epochs(phase, admitted, weigh_by)
        chosen = [(part, weights[name]) for name, parts in admitted.items() for part in parts]
        pool = Pool(
            parts=[part for part, _ in chosen], weights=[weight for _, weight in chosen], seed=seed,
            starts=[walked.get(part.name, 0) for part, _ in chosen],
        )  # fmt: skip
        num_rows = None
        if phase.until_tokens is not None:
            num_rows = -(-(phase.until_tokens - done) // phase.sequence_length)
            done += num_rows * phase.sequence_length

        def rows_of(pool: Pool, length: int = phase.sequence_length) -> RowSource:
            return make_rows(Mixture.of_pool(stores, pool), length)

        stretch, ends = walk_phase(phase, pool, rows_of, num_rows, names)
        stretches.append(stretch)
        walked |= {part.name: end for part, end in zip(pool.parts, ends, strict=True)}
    return stretches


def walk_phase(
    phase: Phase, pool: Pool, make_rows: Callable[[Pool], RowSource], num_rows: int | None, names: Sequence[str]
) -> tuple[Stretch, list[int]]:  # fmt: skip
    """The stretch that takes so many rows of the pool, and where it leaves each part's walk. ``names``: of the stores' sources."""
    if num_rows is None:
        ends = [last for _, last in pool.laps(0)]
    else:
        last_pass, within = make_rows(pool).locate(num_rows - 1)
        pool = pool.ending(last_pass, (within + 1) * phase.sequence_length)
        ends = pool.reached()
    return Stretch(phase=phase, rows=make_rows(pool), num_rows=num_rows, uses=_uses(names, pool, ends)), ends


def _strata(name: str, label: str, number: int, store: TokenStore, phases: Sequence[Phase]) -> list[tuple[Part, set[int]]]:
    """The documents of a store, divided by which phases admit them: (part, numbers of these phases)."""
    asked = [index for index, phase in enumerate(phases) if name in phase.weights]
    pattern = np.zeros(store.num_documents, np.uint64)  # bit i: the i-th of the phases that ask for the source admits the document
    for bit, index in enumerate(asked):
        admitted = np.ones(store.num_documents, bool)
        for grade, (lowest, highest) in phases[index].grades.items():
            values = store.column(grade)
            admitted &= (values >= lowest) & (values <= highest)
        pattern |= admitted.astype(np.uint64) << np.uint64(bit)
    parts = []
    for value in (found := np.unique(pattern)):
        phases_of = {index for bit, index in enumerate(asked) if int(value) >> bit & 1}
        walk = label if len(found) == 1 else f"{label} in phases {sorted(phases_of)}"
        parts.append((part_of(store, number, chosen=np.flatnonzero(pattern == value), name=walk), phases_of))
    return parts


def _epochs(phase: Phase, admitted: Mapping[str, Sequence[Part]], weigh_by: WeighBy) -> dict[str, float]:
    """The weight of each source in epochs."""
    if weigh_by == "epochs":
        return dict(phase.weights)
    tokens = [sum(part.tokens for part in parts) for parts in admitted.values()]
    return dict(zip(phase.weights, epochs_of_shares(tokens, list(phase.weights.values())), strict=True))


def _grades(phase: Phase) -> str:
    bounds = ", ".join(f"{grade} from {lowest:g} to {highest:g}" for grade, (lowest, highest) in phase.grades.items())
    return f"widen its grades ({bounds}) or leave the source out of this phase"


def _uses(names: Sequence[str], pool: Pool, ends: Sequence[int]) -> dict[str, Use]:
    """What each source gave between where the pool's walks began and where they ended."""
    walks = list(zip(pool.parts, [first for first, _ in pool.laps(0)], ends, strict=True))
    taken = {
        part.name: part.tokens_until(pool.seed, end) - part.tokens_until(pool.seed, begin) for part, begin, end in walks
    }  # fmt: skip
    total = sum(taken.values())
    uses = {}
    for name in dict.fromkeys(names[part.source] for part in pool.parts):
        own = [walk for walk in walks if names[walk[0].source] == name]
        documents, tokens = sum(part.count for part, _, _ in own), sum(taken[part.name] for part, _, _ in own)
        visits = sum(end - begin for _, begin, end in own)
        uses[name] = Use(documents=documents, tokens=tokens, epochs=visits / documents, share=tokens / max(total, 1))
    return uses
