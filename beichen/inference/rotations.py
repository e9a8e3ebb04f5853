"""Places of tokens whose sequences may each have a rope rule of their own, fixed for its whole life by the most that it may reach."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from beichen.nn.config import DecoderConfig, RopeConfig
from beichen.nn.decoder import Decoder
from beichen.nn.places import Places
from beichen.nn.rope import rope_rule

RopeKey = tuple[float, float]


def rope_key(config: DecoderConfig, length: int) -> RopeKey:
    """Equal for lengths under which queries and keys are rotated alike."""
    return _key(config.rope, config.head_dim, length)


@lru_cache(maxsize=1 << 14)
def _key(config: RopeConfig, head_dim: int, length: int) -> RopeKey:
    rule = rope_rule(config, head_dim, length)
    return float(rule.inverse_frequencies[-1]), rule.attention_scale


@dataclass(frozen=True)
class _Table:
    length: int  # for which it was made
    cos: Tensor  # [length, head_dim / 2]
    sin: Tensor
    query_scale: Tensor | None  # [length]

    def places(self, positions: Tensor) -> Places:
        """positions [tokens] -> places of [1, tokens]"""
        scale = None if self.query_scale is None else self.query_scale.index_select(0, positions)[None]
        return Places(self.cos.index_select(0, positions)[None], self.sin.index_select(0, positions)[None], scale)


@dataclass(frozen=True)
class RowRotations:
    """What turns the tokens of sequences that stand side by side."""

    tables: list[_Table]  # of each sequence, or one for all
    counts: list[int] | None  # tokens of each; None: one table serves all

    def __call__(self, positions: Tensor) -> Places:
        """positions [tokens] int32, those of one sequence after another.  -> places of [1, tokens]"""
        if self.counts is None:
            return self.tables[0].places(positions)
        parts = [table.places(part) for table, part in zip(self.tables, positions.split(self.counts), strict=True)]
        scales = [part.query_scale for part in parts if part.query_scale is not None]
        cos, sin = torch.cat([part.cos for part in parts], dim=1), torch.cat([part.sin for part in parts], dim=1)
        return Places(cos, sin, torch.cat(scales, dim=1) if scales else None)


class Rotations:
    """One table for each rule in use; those used last are kept, since a rule that moves with every length would leave many."""

    kept = 32

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._tables: OrderedDict[RopeKey, _Table] = OrderedDict()

    def of(self, rules: Sequence[tuple[RopeKey, int]], counts: Sequence[int] | None = None) -> RowRotations:
        """rules: key and length of each sequence; counts: its tokens (default: one each)."""
        tables = [self._table(key, length) for key, length in rules]
        if all(table is tables[0] for table in tables):
            return RowRotations(tables[:1], None)
        return RowRotations(tables, [1] * len(tables) if counts is None else list(counts))

    def _table(self, key: RopeKey, length: int) -> _Table:
        table = self._tables.pop(key, None)
        if table is None or table.length < length:
            places = self.decoder.places(torch.arange(length, device=self.decoder.device)[None], length)
            limit = self.decoder.config.query_scaling_length
            scale = None if limit is None else torch.ones_like(places.cos[0, :, 0])
            scale = scale if places.query_scale is None else places.query_scale[0]
            table = _Table(length, places.cos[0], places.sin[0], scale)
        self._tables[key] = table
        if len(self._tables) > self.kept:
            self._tables.popitem(last=False)
        return table
