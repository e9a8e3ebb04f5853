"""Rendered dialogues as flat arrays, shortened or dropped where a row is too short for them; every case is counted.

In: ``Rendered`` dialogues. Out: ``DialogueTokens``. Rule: a dialogue too long for a row keeps its turns up to the last
trained one that fits; if not even the first trained turn fits, it is cut inside that turn; if no target fits, it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from beichen.data.account import Account
from beichen.text.messages import Rendered

TooLong = Literal["truncate", "drop"]


@dataclass(frozen=True)
class DialogueTokens:
    """All dialogues end to end. ``scored[i]``: ``ids[i]`` is a target (when it is predicted from the id before it)."""

    ids: np.ndarray  # [ids] int32
    scored: np.ndarray  # [ids] bool
    offsets: np.ndarray  # [dialogues + 1] int64
    pad_id: int
    account: Account  # in tokens

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Ids of each dialogue. [dialogues]"""
        return np.diff(self.offsets)


def collect_dialogues(
    rendered: Iterable[Rendered], *, sequence_length: int, pad_id: int, too_long: TooLong = "truncate", account: Account | None = None
) -> DialogueTokens:
    """Arrays of all dialogues that have at least one target within ``sequence_length`` positions."""
    account = Account(item="dialogues", unit="tokens") if account is None else account
    ids: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    room = sequence_length + 1  # the last id is a target only
    for dialogue in rendered:
        tokens, mask = np.array(dialogue.ids, np.int32), np.array(dialogue.loss_mask, bool)
        size = len(tokens)
        account.read.add(size)
        if not mask[1:].any():
            account.drop("nothing in it is scored", size)
            continue
        if size > room:
            keep, fact = _cut(dialogue, room)
            if too_long == "drop":
                account.drop("longer than a row", size)
                continue
            if not mask[1:keep].any():
                account.drop("no scored token fits into a row", size)
                continue
            account.note(fact, size - keep)
            tokens, mask = tokens[:keep], mask[:keep]
        account.used.add(size)
        ids.append(tokens)
        masks.append(mask)
    account.check()
    offsets = np.concatenate(([0], np.cumsum([len(tokens) for tokens in ids], dtype=np.int64))).astype(np.int64)
    flat = np.concatenate(ids) if ids else np.zeros(0, np.int32)
    return DialogueTokens(flat, np.concatenate(masks) if masks else np.zeros(0, bool), offsets, pad_id, account)


def _cut(dialogue: Rendered, room: int) -> tuple[int, str]:
    """How many ids stay, and what that does to the dialogue."""
    end, last_trained_end = 0, 0
    for segment in dialogue.segments:
        end += len(segment.ids)
        if end > room:
            break
        if segment.trained and segment.ids:
            last_trained_end = end
    if last_trained_end > 1:
        return last_trained_end, "shortened after an answer"
    return room, "shortened inside an answer"
