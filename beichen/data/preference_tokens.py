"""Preferences as flat arrays of ids: two documents for each unit, shortened or refused where a row is too short for them.

In: pairs of answers, or rated dialogues. Out: ``PreferenceTokens``. Of a pair, document 2u is the prompt with the chosen answer and 2u + 1
with the rejected one; both stand in one row. Of a rated dialogue, 2u is the dialogue and 2u + 1 the same prompt with the answer of
another one, by which the reference point of KTO is measured. Rule: only the answers are scored; a unit whose answer is wholly cut, or whose
answers are the same as far as they fit, is refused with its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from beichen.data.account import Account, BadInput
from beichen.data.dialogue_settings import DialogueSettings
from beichen.data.dialogue_tokens import rendered_for_training
from beichen.data.left_out import ANSWER_CUT, LONGER, remedy_for_nothing
from beichen.data.order import permutation
from beichen.data.split import is_held_out
from beichen.errors import DataError
from beichen.text.messages import Dialogue, Message, Preference, RatedDialogue
from beichen.text.tokenizer import Tokenizer

_Document = tuple[np.ndarray, np.ndarray]  # ids, whether each is scored


@dataclass(frozen=True, kw_only=True)
class PreferenceTokens:
    """All documents end to end. ``scored[i]``: ``ids[i]`` is a target (when it is predicted from the id before it)."""

    ids: np.ndarray  # [ids] int32
    scored: np.ndarray  # [ids] bool
    offsets: np.ndarray  # [2 units + 1] int64
    good: np.ndarray | None  # [units] bool: how each was rated; None: pairs
    held_out: np.ndarray  # [units] bool: evaluated only
    numbers: np.ndarray  # [units] int64: the place of each among those that were given
    origins: Sequence[str]  # [units] where each was read
    pad_id: int
    account: Account  # in tokens

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def positions(self) -> np.ndarray:
        """Positions that each document takes in a row: the last id is a target only. [documents]"""
        return np.diff(self.offsets) - 1

    @property
    def targets(self) -> np.ndarray:
        """Scored ids of each document. [documents]"""
        return np.diff(np.concatenate(([0], np.cumsum(self.scored)))[self.offsets])

    @property
    def unit_positions(self) -> np.ndarray:
        """Positions that each unit takes in a row: a pair's two documents stand in one, a mismatched one in a row of its own. [units]"""
        both = self.positions.reshape(-1, 2)
        return both.sum(1) if self.good is None else both.max(1)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of all documents and what is scored of them."""
        digest = hashlib.sha256()
        for array in (self.ids, self.scored, self.offsets):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """Two dialogues that belong together."""

    dialogues: tuple[Dialogue, Dialogue]
    origin: str
    good: bool = True


def collect_preferences(
    samples: Iterable[Preference | RatedDialogue], tokenizer: Tokenizer, *, paired: bool, sequence_length: int,
    settings: DialogueSettings, held_out_fraction: float, seed: int, bad: BadInput,
) -> PreferenceTokens:  # fmt: skip
    """Arrays of all units that can be learnt from; ``bad`` says what becomes of the others.

    ``paired``: two answers are compared; else answers are rated one by one.
    """
    account, met = bad.account, _Met()
    units = _pairs(samples) if paired else _rated(samples, seed)
    ids: list[np.ndarray] = [np.zeros(0, np.int32)]
    scored: list[np.ndarray] = [np.zeros(0, bool)]
    kept: list[int] = []
    number = 0
    for chunk in rendered_for_training(met.dialogues(units), tokenizer, settings):
        for first in range(0, len(chunk), 2):
            begin, middle, end = chunk.offsets[first : first + 3].tolist()
            documents = [(chunk.ids[part], chunk.weights[part] > 0) for part in (slice(begin, middle), slice(middle, end))]
            size = end - begin if paired else middle - begin
            account.read.add(size)
            if _keep(documents, met.origins[number], size, paired, sequence_length, settings, bad):
                ids += [document for document, _ in documents]
                scored += [targets for _, targets in documents]
                kept.append(number)
            number += 1
    account.check()
    if not kept:
        raise DataError(
            f"none of {account.read.items:,} preferences can be learnt from: {account.as_text()}",
            remedy=remedy_for_nothing(account, sequence_length=sequence_length),
        )
    return PreferenceTokens(
        ids=np.concatenate(ids), scored=np.concatenate(scored), offsets=np.cumsum([0, *map(len, ids[1:])]),
        good=None if paired else np.array([met.good[place] for place in kept], bool),
        held_out=np.array([is_held_out(met.prompts[place], held_out_fraction) for place in kept], bool),
        numbers=np.array(kept, np.int64), origins=[met.origins[place] for place in kept], pad_id=tokenizer.pad_id, account=account,
    )  # fmt: skip


@dataclass
class _Met:
    """What is noted of each unit while its dialogues go by to be rendered."""

    origins: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    good: list[bool] = field(default_factory=list)

    def dialogues(self, units: Iterable[_Unit]) -> Iterator[Dialogue]:
        for unit in units:
            self.origins.append(unit.origin)
            self.prompts.append("\n".join(message.content for message in unit.dialogues[0].messages if message.weight == 0.0))
            self.good.append(unit.good)
            yield from unit.dialogues


def _pairs(samples: Iterable[Preference | RatedDialogue]) -> Iterator[_Unit]:
    for sample in samples:
        if isinstance(sample, RatedDialogue):
            raise DataError(
                f"{sample.origin}: one rated dialogue, where two answers to one prompt are expected",
                remedy="rated dialogues are trained with preference.kind: kto",
            )
        sides = (_dialogue(sample.prompt, answer, sample) for answer in (sample.chosen, sample.rejected))
        yield _Unit(dialogues=(next(sides), next(sides)), origin=sample.origin)


def _rated(samples: Iterable[Preference | RatedDialogue], seed: int) -> Iterator[_Unit]:
    """Each dialogue beside its mismatched one; a pair is two dialogues, one good and one bad."""
    examples: list[tuple[Sequence[Message], Sequence[Message], bool, Preference | RatedDialogue]] = []
    for sample in samples:
        if isinstance(sample, Preference):
            examples += [(sample.prompt, sample.chosen, True, sample), (sample.prompt, sample.rejected, False, sample)]
        else:
            question = max((place for place, message in enumerate(sample.messages) if message.role != "assistant"), default=-1)
            examples.append((sample.messages[: question + 1], sample.messages[question + 1 :], sample.good, sample))
    order = permutation(seed, "mismatched answers", 0, len(examples))
    partner = np.empty(len(examples), np.int64)
    partner[order] = np.roll(order, -1)  # one ring through all of them: nobody is his own partner
    for (prompt, answer, good, sample), other in zip(examples, partner.tolist(), strict=True):
        both = (_dialogue(prompt, answer, sample), _dialogue(prompt, examples[other][1], sample))
        yield _Unit(dialogues=both, origin=sample.origin, good=good)


def _dialogue(prompt: Sequence[Message], answer: Sequence[Message], sample: Preference | RatedDialogue) -> Dialogue:
    """A dialogue of which only the answer is scored."""
    messages = [*(replace(message, weight=0.0) for message in prompt), *answer]
    return Dialogue(messages=messages, tools=sample.tools, origin=sample.origin)


def _keep(
    documents: list[_Document], origin: str, size: int, paired: bool, row: int, settings: DialogueSettings, bad: BadInput
) -> bool:  # fmt: skip
    """Shortens both documents to what fits into a row of so many positions; whether they can be learnt from."""
    lengths = [len(ids) for ids, _ in documents]
    if paired:  # a side that needs less than half of the row leaves the rest to the other
        half = (row + 2) // 2
        rooms = [max(half, row + 2 - other) for other in reversed(lengths)]
    else:
        rooms = [row + 1, row + 1]
    too_long = any(length > room for length, room in zip(lengths, rooms, strict=True))
    if too_long and settings.too_long == "drop":
        bad.account.drop(LONGER, size)
        return False
    names = ("chosen", "rejected") if paired else ("rated", "mismatched")
    for side, (name, room) in enumerate(zip(names, rooms, strict=True)):
        ids, scored = documents[side]
        if not scored[1:room].any():
            begin = int(scored.argmax()) if scored.any() else len(ids)
            fault = DataError(
                f"{origin}: the {name} answer is wholly cut: its prompt has {begin} tokens, and a row of {row} has room for {room} of them"
                if scored.any() else f"{origin}: nothing of the {name} answer is scored",
                remedy="raise data.sequence_length, or leave such records out (data.on_bad: count)",
            )  # fmt: skip
            bad.refuse(ANSWER_CUT, size, fault)
            return False
        documents[side] = ids[:room], scored[:room]
    if paired and np.array_equal(documents[0][0], documents[1][0]):
        where = " as far as they fit into a row" if too_long else ", token by token"
        bad.refuse("both answers are the same", size, DataError(f"{origin}: the chosen and the rejected answer are the same{where}"))
        return False
    counted = 2 if paired else 1  # a mismatched answer is nobody's sample
    if cut := sum(lengths[:counted]) - sum(len(ids) for ids, _ in documents[:counted]):
        bad.account.note("cut at the end of the row", cut)
    bad.account.used.add(size)
    return True
