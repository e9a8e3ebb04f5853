"""What a preference run reads: its files as pairs or rated examples in ids, and the rows that they make; those held out are left aside."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from beichen.data.account import Account, BadInput
from beichen.data.dialogue_files import read_preferences
from beichen.data.pool import Pool
from beichen.data.preference_rows import PreferenceRows
from beichen.data.preference_tokens import collect_preferences
from beichen.data.rows import RowSource
from beichen.text.messages import Preference, RatedDialogue
from beichen.text.tokenizer import Tokenizer
from beichen.train.item_walk import walk_items
from beichen.train.material import Material, sources_of
from beichen.train.plan import Plan
from beichen.train.settings import TrainRecipe
from beichen.util.progress import Reporter


def collect_material(recipe: TrainRecipe, tokenizer: Tokenizer, reporter: Reporter) -> Material:
    """Collect everything that the sources hold, and plan what is trained on."""
    data, sources, paired = recipe.data, sources_of(recipe.data), recipe.preference.paired
    begins = [0] * len(sources)  # the number of each source's first unit

    def samples() -> Iterator[Preference | RatedDialogue]:
        read = 0
        with reporter.track("reading preferences", total=None, unit="preferences") as task:
            for place, source in enumerate(sources):
                begins[place] = read
                for sample in read_preferences(source.files, settings=data.dialogues, on_bad=data.on_bad, reporter=reporter):
                    yield sample
                    read += 1 if paired or isinstance(sample, RatedDialogue) else 2
                    task.advance()

    tokens = collect_preferences(
        samples(), tokenizer, paired=paired, sequence_length=data.sequence_length, settings=data.dialogues,
        held_out_fraction=data.held_out_fraction, seed=recipe.seed,
        bad=BadInput(data.on_bad, Account(item="preferences", unit="tokens"), reporter),
    )  # fmt: skip
    owner = np.where(tokens.held_out, -1, np.searchsorted(begins, tokens.numbers, side="right") - 1)

    def make_rows(pool: Pool) -> RowSource:
        return PreferenceRows(tokens, sequence_length=data.sequence_length, seed=recipe.seed, pool=pool)

    stretch = walk_items(recipe, sources, owner, tokens.unit_positions, make_rows, item="preference", account=tokens.account)
    return Material(plan=Plan(recipe, (stretch,)), held_out=(), account=tokens.account, preferences=tokens)
