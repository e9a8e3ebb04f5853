"""Many dialogues to ids at once: what training reads, in flat arrays.

Comes in: dialogues, a tokenizer. Goes out: :class:`RenderedDialogues`. Rule kept here: ids and weights are those that
``Tokenizer.render`` gives for each dialogue alone; only the work is shared. Dialogues of one shape (roles and weights) are laid out once,
with holes for what was said; texts are encoded in batches, each text once, while the next dialogues are laid out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from beichen.text.chat import check_vocabulary, dialogue_blocks
from beichen.text.chat_template import ChatTemplate
from beichen.text.encoding_runs import Run, encode_blocks, plan_runs
from beichen.text.messages import Dialogue, Message, Rendered
from beichen.text.tokenizer import Tokenizer

CHUNK_DIALOGUES = 2048
MOST_SHAPES = 4096  # kept at a time

Step = tuple[float, "list[int] | str"]  # weight in the loss; ids, or a text that is still to be encoded
Hole = int  # which message's content stands here
Layout = list[tuple[float, "list[int] | tuple[str | Hole, ...]"]]


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
    with ThreadPoolExecutor(1) as encoder:
        waiting: _Chunk | None = None
        while chunk := list(islice(remaining, CHUNK_DIALOGUES)):
            laid_out = _Chunk([layouts.steps(dialogue) for dialogue in chunk], tokenizer, encoder)
            if waiting is not None:
                yield waiting.rendered()
            waiting = laid_out
        if waiting is not None:
            yield waiting.rendered()


def flat(rendered: Sequence[Rendered]) -> RenderedDialogues:
    """Dialogues that were rendered one by one."""
    return _arrays([[(segment.weight, list(segment.ids)) for segment in one.segments] for one in rendered], {})


class _Chunk:
    """Dialogues whose texts are being encoded."""

    def __init__(self, dialogues: Sequence[Sequence[Step]], tokenizer: Tokenizer, encoder: ThreadPoolExecutor) -> None:
        self._dialogues = dialogues
        self._texts = list(dict.fromkeys(what for steps in dialogues for _, what in steps if isinstance(what, str)))
        self._ids = encoder.submit(tokenizer.encode_batch, self._texts)

    def rendered(self) -> RenderedDialogues:
        return _arrays(self._dialogues, dict(zip(self._texts, self._ids.result(), strict=True)))


def _arrays(dialogues: Sequence[Sequence[Step]], ids_of: dict[str, list[int]]) -> RenderedDialogues:
    ids: list[int] = []
    weights: list[float] = []
    lengths: list[int] = []
    offsets = [0]
    for steps in dialogues:
        for weight, what in steps:
            own = ids_of[what] if isinstance(what, str) else what
            ids += own
            weights.append(weight)
            lengths.append(len(own))
        offsets.append(len(ids))
    return RenderedDialogues(np.array(ids, np.int32), np.repeat(np.array(weights, np.float32), lengths), np.array(offsets, np.int64))


class _Layouts:
    """Dialogues to steps; the layout of a shape is found once, with a letter that nobody types where each content stands."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template, self._tokenizer = template, tokenizer
        self._strips = template.strip_content or template.strip_system or template.thinking is not None
        self._thinks = template.thinking is not None
        self._shapes: dict[tuple[tuple[str, float | None], ...], Layout | None] = {}

    def steps(self, dialogue: Dialogue) -> list[Step]:
        """The dialogue, its texts not yet encoded."""
        if dialogue.tools or self._template.joined or not all(map(self._is_plain, dialogue.messages)):
            return self._one(dialogue)
        shape = tuple([(message.role, message.weight) for message in dialogue.messages])
        if shape not in self._shapes:
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = self._layout(dialogue.messages)
        layout = self._shapes[shape]
        if layout is None:
            return self._one(dialogue)
        said = [message.content for message in dialogue.messages]
        return [(weight, what if isinstance(what, list) else _filled(what, said)) for weight, what in layout]

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
        layout: Layout = []
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
        return layout


def _filled(parts: tuple[str | Hole, ...], said: Sequence[str]) -> str:
    if len(parts) == 1:
        return said[parts[0]] if isinstance(parts[0], int) else parts[0]
    return "".join([said[part] if isinstance(part, int) else part for part in parts])
