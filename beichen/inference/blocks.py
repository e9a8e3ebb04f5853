"""Who owns which block of the key-value cache, and which blocks hold what another sequence also needs.

A block that is full is known by what it holds: its ids, and the block before it. A sequence that begins with the same ids under the same
circumstances (the ``root``: rope rule, adapter) takes such blocks instead of computing them. A block that nobody owns any more keeps its
content until its memory is needed; those that were left first go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

Content = Hashable  # what a block and all before it hold; a root, or a number given to a (content, ids)


@dataclass
class _Block:
    owners: int = 0
    key: tuple[Content, tuple[int, ...]] | None = None  # the content before it and its own ids, once it is full
    content: int = 0


class Blocks:
    """``count`` blocks of ``size`` columns."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._blocks = [_Block() for _ in range(count)]
        self._empty = list(range(count - 1, -1, -1))  # hold nothing; the last is taken first
        self._left: OrderedDict[int, None] = OrderedDict()  # hold something that nobody owns, in the order of leaving
        self._known: dict[tuple[Content, tuple[int, ...]], int] = {}
        self._contents = 0

    @property
    def free(self) -> int:
        """How many can be taken."""
        return len(self._empty) + len(self._left)

    def needed(self, columns: int) -> int:
        """Blocks that so many columns fill."""
        return -(-columns // self.size)

    def take(self, count: int) -> list[int] | None:
        """So many blocks without content, or None (and nothing changes) where there are fewer."""
        if count > self.free:
            return None
        return [self._take() for _ in range(count)]

    def find_prefix(self, root: Content, ids: Sequence[int]) -> tuple[list[int], Content]:
        """The longest known beginning of ``ids`` in whole blocks, now owned once more, and its content. At least one id is left over."""
        found: list[int] = []
        content = root
        for begin in range(0, (len(ids) - 1) // self.size * self.size, self.size):
            number = self._known.get((content, tuple(ids[begin : begin + self.size])))
            if number is None:
                break
            block = self._blocks[number]
            if not block.owners:
                del self._left[number]
            block.owners += 1
            found.append(number)
            content = block.content
        return found, content

    def fill(self, number: int, before: Content, ids: Sequence[int]) -> Content:
        """Say what a block that has become full holds, after ``before``.  -> its content, for the block behind it"""
        key = (before, tuple(ids))
        twin = self._known.get(key)
        if twin is not None:  # computed twice at the same time: one of the two is enough to be found
            return self._blocks[twin].content
        self._contents += 1
        block = self._blocks[number]
        block.key, block.content = key, self._contents
        self._known[key] = number
        return block.content

    def release(self, table: Iterable[int]) -> None:
        """A sequence leaves its blocks; the last ones are forgotten first, since nothing is found behind a missing block."""
        for number in reversed(list(table)):
            block = self._blocks[number]
            block.owners -= 1
            if not block.owners and block.key is None:
                self._empty.append(number)
            elif not block.owners:
                self._left[number] = None

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Raises AssertionError unless ``tables``, of all sequences, own what they should and every other block can be taken."""
        owners = [0] * self.count
        for table in tables:
            assert len(set(table)) == len(table), f"a sequence owns a block twice: {table}"
            for number in table:
                owners[number] += 1
        for number, (block, expected) in enumerate(zip(self._blocks, owners, strict=True)):
            assert block.owners == expected, f"block {number} counts {block.owners} owners and has {expected}"
            kept = number in self._left
            assert kept == (not expected and block.key is not None), f"block {number} is lost, or free while it is owned"
        empty = [number for number, block in enumerate(self._blocks) if not block.owners and block.key is None]
        assert sorted(self._empty) == empty, "the empty blocks are miscounted"
        assert all(self._blocks[number].key == key for key, number in self._known.items()), "a content is known that its block has lost"
        assert len(self._known) == sum(block.key is not None for block in self._blocks), "a block holds a content that nobody finds"

    def _take(self) -> int:
        if self._empty:
            number = self._empty.pop()
        else:
            number, _ = self._left.popitem(last=False)
            block = self._blocks[number]
            assert block.key is not None
            del self._known[block.key]
            block.key = None
        self._blocks[number].owners = 1
        return number
