"""The key-value cache of many sequences in blocks of fixed size, so that they grow, leave and share beginnings without a copy.

``PagePool`` is the memory. ``PagedPass`` is the ``Cache`` of one forward over it: the new tokens of several sequences stand side by side in
one row, each behind the columns that its own sequence has already. Who owns which block is the caller's affair.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.attention import attention
from beichen.nn.attention_backends import split_heads
from beichen.nn.config import DecoderConfig
from beichen.nn.places import Places
from beichen.nn.rope import rotate
from beichen.util.memory import ask_for_huge_pages

BLOCK_SIZE = 32  # columns of a block; a multiple of 16


class PagePool:
    """Keys and values of all layers, each [layers, blocks, key_value_heads, block_size, head_dim]; rotated, as one rope rule says."""

    def __init__(
        self, config: DecoderConfig, *, blocks: int, dtype: torch.dtype, device: torch.device | str = "cpu", block_size: int = BLOCK_SIZE
    ) -> None:
        shape = (config.num_hidden_layers, blocks, config.num_key_value_heads, block_size, config.head_dim)
        self.keys = ask_for_huge_pages(torch.empty(shape, dtype=dtype, device=device))
        self.values = ask_for_huge_pages(torch.empty(shape, dtype=dtype, device=device))
        self.blocks, self.block_size = blocks, block_size

    @property
    def mixes(self) -> bool:
        """Whether one forward may hold single tokens and long chunks, of fresh sequences and others, at no cost."""
        return kernels.can_run(self.keys)


def block_bytes(config: DecoderConfig, dtype: torch.dtype, block_size: int = BLOCK_SIZE) -> int:
    """What one block takes, keys and values of all layers."""
    return 2 * config.num_hidden_layers * config.key_value_size * block_size * dtype.itemsize


class PagedPass:
    """A ``Cache`` over a pool for forwards of [1, tokens]: ``counts[s]`` tokens of sequence s after those of s - 1.

    tables [sequences, most blocks] int32 names each sequence's blocks in the order of its columns, with room for the new ones; pasts
    [sequences]: how many columns it has already. After a forward it stands at the columns behind, ready for as many tokens again.
    """

    length = 0  # positions are always given

    def __init__(self, pool: PagePool, tables: np.ndarray, counts: np.ndarray, pasts: np.ndarray) -> None:
        self.pool, self.counts, self.pasts = pool, counts, np.array(pasts)
        self.longest = int((pasts + counts).max())  # columns, once the forward is over
        self.several = int(counts.max()) > 1  # whether a sequence has more than one new token
        if tables.min() < 0 or tables.max() >= pool.blocks:
            raise ValueError(f"a table names blocks {tables.min()} to {tables.max()}: there are {pool.blocks}")
        sequences, columns, self._starts = np.arange(len(counts)), pasts, None
        if self.several:
            ends = np.cumsum(counts)
            self._starts = np.repeat(ends - counts, counts)  # where a token's sequence begins in this forward
            sequences, columns = np.repeat(sequences, counts), np.arange(ends[-1]) - self._starts + np.repeat(pasts, counts)
        device = pool.keys.device
        self.tables, self.sequences, self.columns, self._counts, self._pasts = (
            torch.from_numpy(np.array(part, dtype=np.int32)).to(device) for part in (tables, sequences, columns, counts, pasts)
        )
        self.check_room()

    def check_room(self) -> None:
        """Raises ValueError where the tables have no place for the new columns."""
        if self.longest > self.tables.shape[1] * self.pool.block_size:
            raise ValueError(f"{self.longest} columns do not fit a table of {self.tables.shape[1]} blocks of {self.pool.block_size}")

    def attend(self, layer: int, qkv: Tensor, places: Places) -> Tensor:
        self.check_room()
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        _, kv_heads, _, head_dim = keys.shape
        if not qkv.requires_grad and kernels.can_run(qkv, self.pool.keys):
            return kernels.paged_attention(
                qkv[0], places.cos[0], places.sin[0], self.tables, self._counts, self._pasts, keys, values,
                num_heads=qkv.shape[2] // head_dim - 2 * kv_heads, scale=1.0 / math.sqrt(head_dim),
            )[None]  # fmt: skip
        query, key, value = split_heads(qkv, kv_heads, head_dim)
        query, key = rotate(query, places.cos, places.sin), rotate(key, places.cos, places.sin)
        size = self.pool.block_size
        blocks, offsets = self.tables[self.sequences.long(), (self.columns // size).long()].long(), (self.columns % size).long()
        keys[blocks, :, offsets], values[blocks, :, offsets] = key[0], value[0]
        if self._fresh:
            return attention(query, key.transpose(1, 2), value.transpose(1, 2), self._first_visible)
        if not self.several:
            return self._one_each(query[0], keys, values)
        parts, begin = [], 0
        for number, (count, past) in enumerate(zip(self.counts.tolist(), self.pasts.tolist(), strict=True)):
            seen_keys, seen_values = (self._gathered(block, slice(number, number + 1), past + count) for block in (keys, values))
            parts.append(attention(query[:, begin : begin + count], seen_keys, seen_values, None, past=past))
            begin += count
        return torch.cat(parts, dim=1)

    def advance(self, tokens: int) -> None:
        """Go on behind the columns of the forward that is over; their number is known."""
        self.longest += int(self.counts.max())
        self.pasts += self.counts
        self._pasts += self._counts
        if not self.several:
            self.columns += 1
        else:
            self.columns += torch.from_numpy(np.repeat(self.counts, self.counts)).to(self.columns)

    @property
    def _fresh(self) -> bool:
        """Whether all sequences begin here: then nobody looks into the blocks."""
        return not self.pasts.any()

    @property
    def _first_visible(self) -> Tensor:
        """Of fresh sequences, which stand in the row as packed documents do.  -> [1, tokens] int32"""
        starts = np.arange(len(self.columns)) if self._starts is None else self._starts
        return torch.from_numpy(starts[None].astype(np.int32)).to(self.tables.device)

    @property
    def _mask(self) -> Tensor:
        """What one new token of each sequence sees.  -> [sequences, 1, 1, columns of the longest]"""
        columns = torch.arange(int(self.columns.max()) + 1, device=self.columns.device)
        return (columns <= self.columns[:, None])[:, None, None]

    def _gathered(self, block: Tensor, sequences: slice, columns: int) -> Tensor:
        """[blocks, key_value_heads, size, head_dim] -> [sequences, key_value_heads, columns, head_dim]"""
        size = self.pool.block_size
        tables = self.tables[sequences, : -(-columns // size)].long()
        return block[tables].transpose(1, 2).flatten(2, 3)[:, :, :columns]

    def _one_each(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """query [sequences, heads, head_dim].  -> [1, sequences, heads * head_dim]"""
        longest = int(self.columns.max()) + 1
        beyond = (torch.arange(longest, device=self.columns.device) > self.columns[:, None])[:, None, :, None]
        # what stands beyond a sequence may be anything, also NaN
        seen_keys, seen_values = (self._gathered(block, slice(None), longest).masked_fill(beyond, 0.0) for block in (keys, values))
        return attention(query[:, None], seen_keys, seen_values, None, past=longest - 1, mask=self._mask).view(1, len(query), -1)
