"""Rendered dialogues as flat arrays, shortened or dropped where a row is too short for them; every case is counted.

In: dialogues and a tokenizer. Out: ``DialogueTokens``. Rule: a dialogue too long for a row keeps its turns up to the last trained one that
fits; if not even the first trained turn fits, it is cut inside that turn; if no target fits, it is dropped. Settings may ask to cut
it at the row's end, or to drop it, instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from beichen.data.account import Account
from beichen.data.dialogue_settings import DEFAULT_SETTINGS, DialogueSettings, TooLong
from beichen.data.left_out import LONGER, NO_TARGET_FITS
from beichen.data.loss_mask import weigh_answers
from beichen.text.bulk_rendering import RenderedDialogues, render_in_bulk
from beichen.text.chat_template import ChatTemplate
from beichen.text.messages import Dialogue
from beichen.text.tokenizer import Tokenizer

_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # ids, weights, length of each dialogue, its number


@dataclass(frozen=True)
class DialogueTokens:
    """All dialogues end to end. ``scored[i]``: ``ids[i]`` is a target (when it is predicted from the id before it)."""

    ids: np.ndarray  # [ids] int32
    scored: np.ndarray  # [ids] bool
    weights: np.ndarray | None  # [ids] float32, what each target counts; None: all alike
    offsets: np.ndarray  # [dialogues + 1] int64
    numbers: np.ndarray  # [dialogues] int64: the place of each among those that were given
    pad_id: int
    account: Account  # in tokens

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Ids of each dialogue. [dialogues]"""
        return np.diff(self.offsets)


def rendered_for_training(
    dialogues: Iterable[Dialogue], tokenizer: Tokenizer, settings: DialogueSettings = DEFAULT_SETTINGS
) -> Iterator[RenderedDialogues]:
    """Dialogues as the settings weigh their answers, as ids, some thousands at a time."""
    form = tokenizer.chat_format
    takes_thoughts = not isinstance(form, ChatTemplate) or form.thinking is not None
    return render_in_bulk(tokenizer, (weigh_answers(dialogue, settings, takes_thoughts=takes_thoughts) for dialogue in dialogues))


def collect_dialogues(
    rendered: Iterable[RenderedDialogues],
    *,
    sequence_length: int,
    pad_id: int,
    too_long: TooLong = "truncate",
    account: Account | None = None,
) -> DialogueTokens:
    """Arrays of all dialogues that have at least one target within ``sequence_length`` positions."""
    account = Account(item="dialogues", unit="tokens") if account is None else account
    parts: list[_Part] = [(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    seen = 0
    for chunk in rendered:
        parts.append(_kept(chunk, seen, sequence_length + 1, too_long, account))  # the last id of a dialogue is a target only
        seen += len(chunk)
    account.check()
    ids, weights, lengths, numbers = (np.concatenate([part[field] for part in parts]) for field in range(4))
    scored = weights > 0
    plain = bool((weights[scored] == 1).all())
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return DialogueTokens(ids, scored, None if plain else weights, offsets, numbers, pad_id, account)


def _kept(chunk: RenderedDialogues, first_number: int, room: int, too_long: TooLong, account: Account) -> _Part:
    """The dialogues of a chunk that are used, each with as much of it as fits into ``room`` ids."""
    size = np.diff(chunk.offsets)
    keep = size.copy()
    scored = chunk.weights > 0
    for place in np.flatnonzero(size > room).tolist():
        begin, end = chunk.offsets[place : place + 2].tolist()
        keep[place] = room if too_long == "keep" else _end_of_last_answer(scored[begin:end], room)
    targets = np.concatenate(([0], np.cumsum(scored)))
    begin = chunk.offsets[:-1]
    after_first = np.minimum(begin + 1, chunk.offsets[1:])  # a first id is never a target
    any_target = targets[chunk.offsets[1:]] > targets[after_first]
    kept_target = targets[begin + keep] > targets[np.minimum(after_first, begin + keep)]
    used = any_target & kept_target
    if too_long == "drop":
        used &= size <= room
    for place in np.flatnonzero(~used | (keep < size)).tolist():
        length, cut = int(size[place]), int(size[place] - keep[place])
        if not any_target[place]:
            account.drop("nothing in it is scored", length)
        elif too_long == "drop":
            account.drop(LONGER, length)
        elif not kept_target[place]:
            account.drop(NO_TARGET_FITS, length)
        else:
            account.note("cut at the end of the row" if keep[place] == room else "shortened after an answer", cut)
    account.read.add(int(size.sum()), len(size))
    account.used.add(int(size[used].sum()), int(used.sum()))
    stays = np.repeat(used, size) & (np.arange(len(chunk.ids)) - np.repeat(begin, size) < np.repeat(keep, size))
    return chunk.ids[stays], chunk.weights[stays], keep[used], first_number + np.flatnonzero(used)


def _end_of_last_answer(scored: np.ndarray, room: int) -> int:
    """Behind the last answer that ends within ``room`` ids; ``room`` itself where none does."""
    ends = np.flatnonzero(scored[:room] & ~scored[1 : room + 1]) + 1  # longer than the room, so there is an id behind it
    ends = ends[ends > 1]
    return int(ends[-1]) if len(ends) else room
