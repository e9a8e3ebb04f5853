"""Many dialogues to ids at once: what training reads, in flat arrays.

Comes in: dialogues, a tokenizer. Goes out: :class:`RenderedDialogues`. Rule kept here: ids and weights are those that
``Tokenizer.render`` gives for each dialogue alone; only the work is shared. Dialogues of one shape (roles and weights) are laid out once,
with holes for what was said; the texts of some thousands are encoded together, each once, and all pieces gathered in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from beichen.text.chat import check_vocabulary, dialogue_blocks
from beichen.text.chat_template import ChatTemplate
from beichen.text.encoding_runs import Run, encode_blocks, plan_runs
from beichen.text.messages import Dialogue, Message, Rendered
from beichen.text.tokenizer import Tokenizer

CHUNK_DIALOGUES = 2048
MOST_SHAPES = 4096  # kept at a time

TEXT, OWN = -1, -2  # in place of a number of fixed ids: the next of the texts, the next of the ids that no other dialogue shares

Step = tuple[float, "list[int] | str"]  # weight in the loss; ids, or a text that is still to be encoded
Hole = int  # which message's content stands here


@dataclass(frozen=True)
class Layout:
    """What dialogues of one shape have in common."""

    pieces: tuple[int, ...]  # a number of fixed ids, or TEXT
    weights: tuple[float, ...]
    texts: tuple[tuple[str | Hole, ...], ...]


@dataclass(frozen=True)
class RenderedDialogues:
    """Some dialogues end to end."""

    ids: np.ndarray  # [ids] int32
    weights: np.ndarray  # [ids] float32: what each counts in the loss as a target; 0: context
    offsets: np.ndarray  # [dialogues + 1] int64

    def __len__(self) -> int:
        return len(self.offsets) - 1


def render_in_bulk(tokenizer: Tokenizer, dialogues: Iterable[Dialogue]) -> Iterator[RenderedDialogues]:
    """All dialogues in order, some thousands at a time."""
    template = tokenizer.chat_format
    remaining = iter(dialogues)
    if not isinstance(template, ChatTemplate):  # a program has to be run for each dialogue
        while chunk := list(islice(remaining, CHUNK_DIALOGUES)):
            yield flat([tokenizer.render(dialogue.messages, dialogue.tools) for dialogue in chunk])
        return
    check_vocabulary(template, tokenizer)
    layouts = _Layouts(template, tokenizer)
    while chunk := list(islice(remaining, CHUNK_DIALOGUES)):
        collected = _Chunk()
        layouts.make_room()
        for dialogue in chunk:
            layouts.lay_out(dialogue, collected)
        yield collected.rendered(layouts.fixed, tokenizer)


def flat(rendered: Sequence[Rendered]) -> RenderedDialogues:
    """Dialogues that were rendered one by one."""
    ids = _joined([segment.ids for one in rendered for segment in one.segments])
    weights = np.array([segment.weight for one in rendered for segment in one.segments], np.float32)
    sizes = [len(segment.ids) for one in rendered for segment in one.segments]
    return RenderedDialogues(ids, np.repeat(weights, sizes), _ends([sum(len(segment.ids) for segment in one.segments) for one in rendered]))


class _Chunk:
    """Some dialogues as pieces: fixed ids, texts that are still to be encoded, and ids of their own."""

    def __init__(self) -> None:
        self._pieces: list[int] = []
        self._weights: list[float] = []
        self._texts: list[str] = []
        self._own: list[list[int]] = []
        self._steps: list[int] = []  # pieces of each dialogue

    def add_shaped(self, layout: Layout, said: Sequence[str]) -> None:
        """A dialogue as its shape lays it out."""
        self._pieces += layout.pieces
        self._weights += layout.weights
        self._texts += [_filled(parts, said) for parts in layout.texts]
        self._steps.append(len(layout.pieces))

    def add(self, steps: Sequence[Step]) -> None:
        """A dialogue that was laid out by itself."""
        for weight, what in steps:
            self._weights.append(weight)
            if isinstance(what, str):
                self._pieces.append(TEXT)
                self._texts.append(what)
            else:
                self._pieces.append(OWN)
                self._own.append(what)
        self._steps.append(len(steps))

    def rendered(self, fixed: Sequence[Sequence[int]], tokenizer: Tokenizer) -> RenderedDialogues:
        """All dialogues as arrays."""
        numbers: dict[str, int] = {}
        told = np.array([numbers.setdefault(text, len(numbers)) for text in self._texts], np.int64)
        pool = [*fixed, *tokenizer.encode_batch(list(numbers)), *self._own]
        pieces = np.array(self._pieces, np.int64)
        own = pieces == OWN
        pieces[pieces == TEXT] = len(fixed) + told
        pieces[own] = len(fixed) + len(numbers) + np.arange(len(self._own))
        sizes = np.fromiter(map(len, pool), np.int64, len(pool))
        lengths, begins = sizes[pieces], _ends(sizes)[pieces]
        ends = _ends(lengths)
        places = np.arange(ends[-1]) + np.repeat(begins - ends[:-1], lengths)
        weights = np.repeat(np.array(self._weights, np.float32), lengths)
        return RenderedDialogues(_joined(pool)[places], weights, ends[_ends(self._steps)])


def _joined(parts: Sequence[Sequence[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(parts), np.int32, sum(map(len, parts)))


def _ends(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where each part begins, and the end of the last. [parts + 1] int64"""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


class _Layouts:
    """Dialogues to steps; the layout of a shape is found once, with a letter that nobody types where each content stands."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template, self._tokenizer = template, tokenizer
        self._strips = template.strip_content or template.strip_system or template.thinking is not None
        self._thinks = template.thinking is not None
        self._shapes: dict[tuple[tuple[str, float | None], ...], Layout | None] = {}
        self.fixed: list[list[int]] = []  # ids that dialogues share, by number

    def make_room(self) -> None:
        """Forgets the shapes where they are many; numbers of fixed ids hold until then."""
        if len(self._shapes) >= MOST_SHAPES:
            self._shapes.clear()
            self.fixed.clear()

    def lay_out(self, dialogue: Dialogue, chunk: _Chunk) -> None:
        """Adds the dialogue to the chunk."""
        messages = dialogue.messages
        if dialogue.tools or self._template.joined or not all(map(self._is_plain, messages)):
            chunk.add(self._one(dialogue))
            return
        shape = tuple([(message.role, message.weight) for message in messages])
        if shape not in self._shapes:
            self._shapes[shape] = self._layout(messages)
        layout = self._shapes[shape]
        if layout is None:
            chunk.add(self._one(dialogue))
        else:
            chunk.add_shaped(layout, [message.content for message in messages])

    def _is_plain(self, message: Message) -> bool:
        """Whether the content comes out as it stands, whatever it says."""
        content = message.content
        if message.tool_calls or message.thinking is not None or not content:
            return False
        return not (self._strips and (content[0].isspace() or content[-1].isspace())) and not (self._thinks and "</think>" in content)

    def _one(self, dialogue: Dialogue) -> list[Step]:
        """A dialogue with calls, thoughts or blanks: laid out by itself."""
        blocks = dialogue_blocks(self._template, dialogue.messages, dialogue.tools)
        if self._template.joined:
            parts = encode_blocks(blocks, self._tokenizer, joined=True, answer_apart=self._template.answer_apart)
            return [(block.weight, ids) for block, ids in zip(blocks, parts, strict=True)]
        steps: list[Step] = []
        for step in plan_runs(blocks, self._tokenizer, joined=False):
            if not isinstance(step, Run):
                steps.append((blocks[step[0]].weight, [step[1]]))
            else:
                text = self._tokenizer.encode(step.text, continues=True) if step.continues else step.text
                steps.append((blocks[step.pieces[0][0]].weight, text))
        return steps

    def _layout(self, messages: Sequence[Message]) -> Layout | None:
        """None where the ids of a content depend on what stands before it."""
        holes = {f"\U0010fffd{index}": index for index in range(len(messages))}
        blank = [Message(role=one.role, content=hole, weight=one.weight) for one, hole in zip(messages, holes, strict=True)]
        blocks = dialogue_blocks(self._template, blank)
        layout: list[tuple[float, list[int] | tuple[str | Hole, ...]]] = []
        for step in plan_runs(blocks, self._tokenizer, joined=False):
            if not isinstance(step, Run):
                found: list[int] | tuple[str | Hole, ...] = [step[1]]
                block = step[0]
            else:
                block = step.pieces[0][0]
                found = tuple(holes.get(text, text) for _, text in step.pieces)
                if not any(isinstance(part, int) for part in found):
                    found = self._tokenizer.encode(step.text, continues=step.continues)
                elif step.continues and self._tokenizer.strips_first_space:
                    return None
            weight = blocks[block].weight
            if layout and isinstance(found, list) and isinstance(layout[-1][1], list) and layout[-1][0] == weight:
                layout[-1] = (weight, [*layout[-1][1], *found])
            else:
                layout.append((weight, found))
        pieces: list[int] = []
        for _, part in layout:
            if isinstance(part, list):
                pieces.append(len(self.fixed))
                self.fixed.append(part)
            else:
                pieces.append(TEXT)
        weights = tuple(weight for weight, _ in layout)
        return Layout(tuple(pieces), weights, tuple(part for _, part in layout if isinstance(part, tuple)))


def _filled(parts: tuple[str | Hole, ...], said: Sequence[str]) -> str:
    if len(parts) == 1:
        return said[parts[0]] if isinstance(parts[0], int) else parts[0]
    return "".join([said[part] if isinstance(part, int) else part for part in parts])
