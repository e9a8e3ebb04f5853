"""What a run on dialogues reads: its files as rendered dialogues, and the rows that they make; those held out are left aside."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from beichen.data.account import Account
from beichen.data.dialogue_files import read_dialogues
from beichen.data.dialogue_tokens import collect_dialogues, rendered_for_training
from beichen.data.held_out_dialogues import HeldOutDialogues
from beichen.data.pool import Pool
from beichen.data.rows import DialogueRows, RowSource
from beichen.data.split import is_held_out
from beichen.text.bulk_rendering import RenderedDialogues
from beichen.text.messages import Dialogue
from beichen.text.tokenizer import Tokenizer
from beichen.train.item_walk import walk_items
from beichen.train.material import Material, sources_of
from beichen.train.plan import Plan
from beichen.train.settings import TrainRecipe
from beichen.util.progress import Reporter


def render_dialogues(recipe: TrainRecipe, tokenizer: Tokenizer, reporter: Reporter) -> Material:
    """Render every dialogue, leave the held-out ones aside, and plan the others."""
    data, sources = recipe.data, sources_of(recipe.data)
    account, begins = Account(item="dialogues", unit="tokens"), [0] * len(sources)  # the number of each source's first dialogue
    held_out: list[bool] = []  # of each dialogue

    def dialogues() -> Iterator[Dialogue]:
        read = 0
        for place, source in enumerate(sources):
            begins[place] = read
            for dialogue in read_dialogues(source.files, settings=data.dialogues, on_bad=data.on_bad, reporter=reporter):
                held_out.append(is_held_out("\n".join(message.content for message in dialogue.messages), data.held_out_fraction))
                yield dialogue
                read += 1

    def rendered() -> Iterator[RenderedDialogues]:
        with reporter.track("rendering dialogues", total=None, unit="dialogues") as task:
            for chunk in rendered_for_training(dialogues(), tokenizer, data.dialogues):
                yield chunk
                task.advance(len(chunk))

    collected = collect_dialogues(
        rendered(), sequence_length=data.sequence_length, pad_id=tokenizer.pad_id, too_long=data.dialogues.too_long, account=account
    )
    owner = np.searchsorted(begins, collected.numbers, side="right") - 1
    evaluated = np.array(held_out, bool)[collected.numbers]
    scored = [
        (source.name, HeldOutDialogues(collected, items, sequence_length=data.sequence_length))
        for place, source in enumerate(sources)
        if len(items := np.flatnonzero(evaluated & (owner == place)))
    ]
    owner[evaluated] = -1  # trained on by nobody

    def make_rows(pool: Pool) -> RowSource:
        return DialogueRows(
            collected, sequence_length=data.sequence_length, seed=recipe.seed, isolate=data.isolate_documents, pool=pool
        )  # fmt: skip

    positions = collected.lengths - 1  # the last id of a dialogue is a target only
    stretch = walk_items(recipe, sources, owner, positions, make_rows, item="dialogue", account=account)
    return Material(plan=Plan(recipe, (stretch,)), held_out=scored, account=account)
