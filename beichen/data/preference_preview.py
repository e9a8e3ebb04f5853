"""What training will see of some preferences: both answers to each prompt, or each rated one, and the rows they are packed into.

In: preferences, a tokenizer, settings. Out: a ``Preview``, as of dialogues. Rule: ids, scored answers and rows are those of training, by
the same functions; a preference that training refuses is named by ``bad`` and not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from beichen.data.account import BadInput
from beichen.data.dialogue_settings import DEFAULT_SETTINGS, DialogueSettings
from beichen.data.pool import Part, Pool
from beichen.data.preference_rows import PreferenceRows
from beichen.data.preference_tokens import PreferenceTokens, collect_preferences
from beichen.data.preview import Preview, PreviewPart, faults_of, preview_row, spelled
from beichen.text.messages import Preference, RatedDialogue
from beichen.text.tokenizer import Tokenizer

SCORED = "scored"
BECOMES = dict.fromkeys(("chosen", "good"), "to become likelier") | dict.fromkeys(("rejected", "bad"), "to become less likely")


def preview_preferences(
    preferences: Iterable[Preference | RatedDialogue], tokenizer: Tokenizer, settings: DialogueSettings = DEFAULT_SETTINGS, *,
    paired: bool, sequence_length: int, samples: int, rows: int, bad: BadInput, seed: int = 0,
) -> Preview:  # fmt: skip
    """The first ``samples`` units, pairs or rated dialogues, and the first ``rows`` rows into which all of them are packed."""
    tokens = collect_preferences(
        preferences, tokenizer, paired=paired, sequence_length=sequence_length, settings=settings, held_out_fraction=0.0, seed=seed, bad=bad
    )
    items = Part(name="all", source=0, items=np.arange(len(tokens)), lengths=tokens.unit_positions)
    source = PreferenceRows(
        tokens, sequence_length=sequence_length, seed=seed, pool=Pool(parts=[items], weights=[1.0], seed=seed)
    )  # fmt: skip
    total = int(source.rows_per_epoch)
    packed = [
        preview_row(replace(source.row(index), weights=None), f"row {index + 1} of {total:,}", tokenizer, item="answers", becomes=SCORED)
        for index in range(min(rows, total))
    ]
    shown = [part for unit in range(min(samples, len(tokens))) for part in _sides(tokens, unit, tokenizer)]
    return Preview(samples=shown, rows=packed, account=tokens.account.as_text(), sequence_length=sequence_length, becomes=SCORED)


def _sides(tokens: PreferenceTokens, unit: int, tokenizer: Tokenizer) -> Iterator[PreviewPart]:
    """Each answer behind its prompt; of a rated one, itself alone."""
    names = ("chosen", "rejected") if tokens.good is None else (("good" if tokens.good[unit] else "bad"),)
    for document, name in enumerate(names, 2 * unit):
        place = slice(*tokens.offsets[document : document + 2])
        ids, weights = tokens.ids[place].tolist(), tokens.scored[place].astype(float).tolist()
        faults = faults_of(ids, weights, tokenizer, cut=True)  # only a cut parts an answer from its end token here
        yield PreviewPart(
            title=f"{tokens.origins[unit]} · {name}", tokens=spelled(ids, weights, tokenizer), faults=faults, becomes=BECOMES[name]
        )
