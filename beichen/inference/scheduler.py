"""Which sequences take part in the next step of the engine, and with how many tokens each.

Rules kept: whoever is in decodes at every step; the rest of a step's tokens goes to prompts, in the order of admission. Waiting requests
are admitted by priority, and within one by turns among their owners, so that nobody's thousand requests hold up another's one. When
memory ends, the sequence that was last in the queue gives up its blocks and is computed again later, from the ids that it has.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from beichen.inference.api import Request
from beichen.inference.blocks import Blocks
from beichen.inference.sequence import Sequence


@dataclass(frozen=True)
class Work:
    """One step: sequences that get one more id each, and (sequence, tokens) of prompts."""

    decodes: list[Sequence]
    prompts: list[tuple[Sequence, int]]


class Scheduler:
    """Waiting and running sequences over one set of blocks."""

    def __init__(self, blocks: Blocks, *, max_rows: int, step_tokens: int) -> None:
        """max_rows: sequences that run at a time. step_tokens: tokens of a step, those of prompts included."""
        self.blocks, self.max_rows, self.step_tokens = blocks, max_rows, step_tokens
        self.running: list[Sequence] = []  # in the order of admission
        self._waiting: list[tuple[tuple[int, int, int], Sequence]] = []  # a heap
        self._turns: dict[tuple[int, str], int] = {}  # the turn of an owner's latest request, while any waits
        self._turn = 0  # of the request admitted last
        self.preemptions = 0

    @property
    def waiting(self) -> int:
        """How many are not in yet, or out again."""
        return len(self._waiting)

    def tag(self, request: Request, arrival: int) -> tuple[int, int, int]:
        """The place of a new request in the queue: priority, turn of its owner, arrival."""
        key = (request.priority, request.owner)
        turn = max(self._turns.get(key, 0) + 1, self._turn)
        self._turns[key] = turn
        return (-request.priority, turn, arrival)

    def add(self, sequence: Sequence) -> None:
        heapq.heappush(self._waiting, (sequence.tag, sequence))

    def remove(self, sequence: Sequence) -> None:
        """It has ended, or nobody wants it any more: its blocks are free at once."""
        if sequence in self.running:
            self.running.remove(sequence)
            self.blocks.release(sequence.table)
        else:
            self._waiting = [entry for entry in self._waiting if entry[1] is not sequence]
            heapq.heapify(self._waiting)
        sequence.restart()
        if not self._waiting:
            self._turns.clear()

    def spare(self, sequence: Sequence, columns: int) -> int:
        """Blocks for up to so many columns beyond its ids, at nobody's cost.  -> for how many there are some now"""
        while (room := len(sequence.table) * self.blocks.size - len(sequence.ids)) < columns:
            block = self.blocks.take(1)
            if block is None:
                return room
            sequence.table += block
        return columns

    def next(self) -> Work:
        """What to do now; blocks for it are taken. Empty where nothing is left."""
        size = self.blocks.size
        full = [sequence for sequence in self.running if len(sequence.table) * size < len(sequence.ids)]
        for sequence in sorted(full, key=lambda one: one.tag):
            if sequence in self.running:
                self._make_room(sequence)
        decodes = [sequence for sequence in self.running if sequence.computed == len(sequence.ids) - 1]
        left = self.step_tokens - len(decodes)
        prompts: list[tuple[Sequence, int]] = []
        if len(decodes) < len(self.running):
            for sequence in self.running:
                missing = len(sequence.ids) - sequence.computed
                if missing > 1 and left > 0:
                    prompts.append((sequence, min(missing, left)))
                    left -= prompts[-1][1]
        while self._waiting and left > 0 and len(self.running) < self.max_rows and self._admit(self._waiting[0][1]):
            sequence = heapq.heappop(self._waiting)[1]
            prompts.append((sequence, min(len(sequence.ids) - sequence.computed, left)))
            left -= prompts[-1][1]
        return Work(decodes, prompts)

    def _admit(self, sequence: Sequence) -> bool:
        """Take blocks for all that it has and one column more, if there are so many beside those that it shares."""
        shared, content = self.blocks.find_prefix(sequence.root, sequence.ids)
        own = self.blocks.take(self.blocks.needed(len(sequence.ids) + 1) - len(shared))
        if own is None:
            self.blocks.release(shared)
            return False
        sequence.table, sequence.content, sequence.filled = [*shared, *own], content, len(shared)
        sequence.computed = sequence.shared = len(shared) * self.blocks.size
        self.running.append(sequence)
        self._turn = sequence.tag[1]
        return True

    def _make_room(self, sequence: Sequence) -> None:
        """A block for the next column, at the cost of whoever is last in the queue; that may be the sequence itself."""
        while sequence in self.running and len(sequence.table) * self.blocks.size < len(sequence.ids):
            block = self.blocks.take(1)
            if block is None:
                self._preempt(max(self.running, key=lambda one: one.tag))
            else:
                sequence.table += block

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.blocks.release(sequence.table)
        sequence.restart()
        self.add(sequence)
        self.preemptions += 1
