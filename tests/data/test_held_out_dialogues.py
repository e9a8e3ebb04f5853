"""Held-out dialogues: each once, scored as training would score them, whatever the batches."""

from __future__ import annotations

import random

import numpy as np
import pytest

from beichen.data.account import Account
from beichen.data.batch import IGNORED
from beichen.data.dialogue_tokens import DialogueTokens
from beichen.data.held_out_dialogues import HeldOutDialogues


def dialogues(number: int, seed: int) -> DialogueTokens:
    rng = random.Random(seed)
    lengths = [rng.randint(2, 20) for _ in range(number)]
    ids = np.arange(sum(lengths), dtype=np.int32) + 5
    scored = np.array([rng.random() < 0.5 for _ in ids])
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return DialogueTokens(ids, scored, None, offsets, np.arange(number), 0, Account(item="dialogues", unit="tokens"))


@pytest.mark.parametrize("rows", [1, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_every_target_of_the_held_out_ones_is_scored_once(rows, seed):
    everything = dialogues(40, seed)
    items = np.array([number for number in range(40) if random.Random(seed * 100 + number).random() < 0.3])
    held = HeldOutDialogues(everything, items, sequence_length=24)
    batches = list(held.batches(rows))
    assert len(batches) == held.num_batches(rows) and held.num_bytes is None
    found = sorted(int(target) for batch in batches for target in batch.targets[batch.targets != IGNORED])
    wanted = []
    for item in items:
        begin, end = everything.offsets[item : item + 2]
        wanted += [
            int(token) for token, scored in zip(everything.ids[begin + 1 : end], everything.scored[begin + 1 : end], strict=True) if scored
        ]
    assert found == sorted(wanted)
    for batch in batches:
        assert batch.input_ids.shape == (rows, 24)
        inside = batch.targets != IGNORED
        assert (batch.targets[inside] == batch.input_ids[inside] + 1).all(), "each target follows its input"
