"""``walk_items``: whole items of several sources (dialogues, pairs) to the stretch of rows that a run reads; no item is ever split.

In: which source each item belongs to, how many positions it takes, and how rows are made of a pool of them. Called by ``material``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from beichen.data.account import Account
from beichen.data.curriculum import Phase, Stretch, walk_phase
from beichen.data.left_out import remedy_for_nothing
from beichen.data.mixture import epochs_of_shares
from beichen.data.pool import Part, Pool
from beichen.data.rows import RowSource
from beichen.errors import SettingsError
from beichen.train.settings import TrainRecipe
from beichen.train.source_settings import SourceSettings


def walk_items(
    recipe: TrainRecipe, sources: Sequence[SourceSettings], owner: np.ndarray, positions: np.ndarray,
    make_rows: Callable[[Pool], RowSource], *, item: str, account: Account,
) -> Stretch:  # fmt: skip
    """owner [items]: the place of its source, negative where it is held out; positions [items]. item: its name in errors; account: of all
    that was read. Raises SettingsError for a source of which nothing is left."""
    data = recipe.data
    parts = [
        Part(name=source.name, source=place, items=np.flatnonzero(owner == place), lengths=positions[owner == place])
        for place, source in enumerate(sources)
    ]  # fmt: skip
    for part in parts:
        if not part.count:
            held_out = f"; {np.count_nonzero(owner < 0):,} held out" if (owner < 0).any() else ""
            raise SettingsError(
                f"data.sources: no {item} of '{part.name}' can be trained on: of all sources {account.as_text()}{held_out}",
                remedy=remedy_for_nothing(account, sequence_length=data.sequence_length),
            )
    weights = [source.weight for source in sources]
    if data.weigh_by == "shares":
        weights = epochs_of_shares([part.tokens for part in parts], weights)
    names = [source.name for source in sources]
    phase = Phase(name="all", weights=dict(zip(names, weights, strict=True)), sequence_length=data.sequence_length)
    pool = Pool(parts=parts, weights=weights, seed=recipe.seed)
    return walk_phase(phase, pool, make_rows, recipe.budget.samples, names)[0]
