"""Text and control tokens to ids: where a run of text begins, and what belongs to one run.

Comes in: blocks of parts, each a text or a control token. Goes out: ids per block. Rule kept here: text is encoded as plain text, always;
a control token ends a run of text, and only the first text of a run gets the space that some vocabularies put before it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from beichen.errors import LengthError
from beichen.text.chat_template import Special
from beichen.text.messages import Role


class Encoder(Protocol):
    """What rendering asks of a tokenizer."""

    @property
    def special_ids(self) -> Mapping[str, int]: ...

    @property
    def inline_ids(self) -> Collection[int]:
        """Control tokens that end no run of text, since the published code reads them inside one."""

    def encode(self, text: str, *, allow_special: bool = False, continues: bool = False) -> list[int]: ...

    def token_bytes(self, token: int) -> bytes: ...


@dataclass(frozen=True)
class Permissive:
    """An encoder that lets the names of control tokens in texts act."""

    encoder: Encoder

    @property
    def special_ids(self) -> Mapping[str, int]:
        return self.encoder.special_ids

    @property
    def inline_ids(self) -> Collection[int]:
        return self.encoder.inline_ids

    def encode(self, text: str, *, allow_special: bool = True, continues: bool = False) -> list[int]:
        return self.encoder.encode(text, allow_special=allow_special, continues=continues)

    def token_bytes(self, token: int) -> bytes:
        return self.encoder.token_bytes(token)


class Bounded:
    """An encoder for one prompt that refuses a text which surely does not fit, instead of encoding it."""

    def __init__(self, encoder: Encoder, least_tokens: Callable[[str], int], longest: int) -> None:
        """longest: ids of all texts together."""
        self._encoder, self._least_tokens, self._longest = encoder, least_tokens, longest
        self._count = 0

    @property
    def special_ids(self) -> Mapping[str, int]:
        return self._encoder.special_ids

    @property
    def inline_ids(self) -> Collection[int]:
        return self._encoder.inline_ids

    def encode(self, text: str, *, allow_special: bool = False, continues: bool = False) -> list[int]:
        least = self._count + (0 if allow_special else self._least_tokens(text))  # a control token may take the blanks around it
        if least > self._longest:
            raise LengthError(least=least, most=self._longest)
        ids = self._encoder.encode(text, allow_special=allow_special, continues=continues)
        self._count += len(ids)
        return ids

    def token_bytes(self, token: int) -> bytes:
        return self._encoder.token_bytes(token)


class Block(NamedTuple):
    """A run of a rendered dialogue before encoding: text and control tokens with one meaning."""

    parts: tuple[str | Special, ...]
    weight: float  # in the loss; 0: context
    role: Role
    answer: bool = False  # what the model has to emit, whether it is trained or not: weights never change ids


class Run(NamedTuple):
    """Text to be encoded in one go, and how much of it is whose."""

    pieces: tuple[tuple[int, str], ...]  # (block, text)
    continues: bool  # other text stands before it, so that no space is put there

    @property
    def text(self) -> str:
        return self.pieces[0][1] if len(self.pieces) == 1 else "".join(text for _, text in self.pieces)


Control = tuple[int, int]  # (block, id)


def encode_blocks(blocks: Sequence[Block], encoder: Encoder, *, joined: bool, answer_apart: bool = False) -> list[list[int]]:
    """Ids of each block. ``joined``: neighbouring texts of several blocks are encoded in one go and cut afterwards; ``answer_apart``: but
    an answer begins anew."""
    ids: list[list[int]] = [[] for _ in blocks]
    for step in plan_runs(blocks, encoder, joined=joined, answer_apart=answer_apart):
        if isinstance(step, Run):
            for block, own in cut_run(step, encoder.encode(step.text, continues=step.continues), encoder):
                ids[block] += own
        else:
            ids[step[0]].append(step[1])
    return ids


def plan_runs(blocks: Sequence[Block], encoder: Encoder, *, joined: bool, answer_apart: bool = False) -> list[Run | Control]:
    """The control tokens and the runs of text of some blocks, in order."""
    special_ids, inline_ids = encoder.special_ids, encoder.inline_ids if joined else ()
    steps: list[Run | Control] = []
    texts: list[tuple[int, str]] = []  # (block, text) of the run that is being collected
    inside = False  # whether a run of text has begun, so that no space comes before what follows
    for number, block in enumerate(blocks):
        if block.answer and answer_apart:
            if texts:
                steps.append(Run(tuple(texts), inside))
            texts, inside = [], False
        for part in block.parts:
            if isinstance(part, str):
                if part:
                    texts.append((number, part))
                continue
            token = special_ids.get(part.name)
            if token is None:  # a control token that this vocabulary does not have is ordinary text
                texts.append((number, part.name))
                continue
            if texts:
                steps.append(Run(tuple(texts), inside))
                texts, inside = [], True
            if token in inline_ids:
                if not inside:
                    steps += [(number, opening) for opening in _opening(encoder)]
                inside = True
            else:
                inside = False
            steps.append((number, token))
        if texts and not joined:
            steps.append(Run(tuple(texts), inside))
            texts, inside = [], True
    if texts:
        steps.append(Run(tuple(texts), inside))
    return steps


def cut_run(run: Run, ids: list[int], encoder: Encoder) -> Iterator[tuple[int, list[int]]]:
    """(block, its ids) of an encoded run; a token that reaches into the next block belongs to the one where it begins."""
    first, last = run.pieces[0][0], run.pieces[-1][0]
    if first == last:
        yield first, ids
        return
    sizes = [len(encoder.token_bytes(token)) for token in ids]
    place = sum(len(text.encode()) for _, text in run.pieces) - sum(sizes)  # negative by the space that nobody wrote
    ends, end = [], 0
    for block, text in run.pieces:
        end += len(text.encode())
        ends.append((block, end))
    for token, size in zip(ids, sizes, strict=True):
        while len(ends) > 1 and max(place, 0) >= ends[0][1]:
            ends.pop(0)
        yield ends[0][0], [token]
        place += size


def _opening(encoder: Encoder) -> list[int]:
    """What a run that begins with a control token begins with: the space before it, in vocabularies that put one."""
    probe = encoder.encode("\n")
    return probe[: len(probe) - len(encoder.encode("\n", continues=True))]
