"""The forwards of an engine: what its sequences read in a step, in as few passes over the decoder as is quick.

In: sequences with blocks for what they read. Out: logits of the places that are looked at. Nobody's state moves here; only the rows that
decode over and over are kept from one step to the next.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from beichen.inference.adapter_batches import Adapters, spans_of
from beichen.inference.decoding_rows import DecodingRows
from beichen.inference.rotations import Rotations
from beichen.inference.sequence import Sequence
from beichen.nn.decoder import Decoder
from beichen.nn.paged_cache import PagedPass, PagePool
from beichen.nn.stepping import FEW_TOKENS, Stepper


@dataclass(frozen=True)
class Reading:
    """What a forward reads of one sequence, behind all that has been computed."""

    sequence: Sequence
    ids: Several[int]
    wanted: int  # logits of so many of its last places are looked at


class Forwards:
    """A decoder over one pool. Its weights must not change meanwhile."""

    def __init__(self, decoder: Decoder, pool: PagePool, *, vocab_size: int, adapters: Adapters) -> None:
        """vocab_size: ids that mean text. adapters: those that requests may ask for, by name."""
        self.decoder, self.pool, self.vocab_size, self.adapters = decoder, pool, vocab_size, adapters
        self._step = Stepper(decoder)
        self._rotations = Rotations(decoder)
        self._decoding: DecodingRows | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab_size] float32"""
        logits = self.decoder.logits(hidden)
        return logits if logits.shape[-1] == self.vocab_size else logits[..., : self.vocab_size]

    def decode(self, sequences: list[Sequence]) -> Tensor:
        """The last id of each.  -> [sequences, vocab]"""
        if self._decoding is None or self._decoding.sequences != sequences:  # by identity
            spans = spans_of(self.adapters, [one.request for one in sequences], [1] * len(sequences))
            self._decoding = DecodingRows(sequences, self._rotations, self.pool, spans)
        ids, places = self._decoding.next()
        return self.logits(self._step(ids, places, self._decoding.pages))

    def forget(self) -> None:
        """Keep nothing of those who decoded: one of them has read something else, or all have ended."""
        self._decoding = None

    def read(self, decodes: list[Reading], prompts: list[Reading]) -> tuple[list[Sequence], Tensor | None]:
        """-> those of whom places are wanted, decodes first, and the logits of all these places [places, vocab], in their order"""
        self.forget()
        groups = self._groups(decodes, prompts)
        hidden = [self._read(group) for group in groups]
        rows = [reading.sequence for group in groups for reading in group if reading.wanted]
        return rows, self.logits(torch.cat(hidden)) if rows else None

    def _groups(self, decodes: list[Reading], prompts: list[Reading]) -> list[list[Reading]]:
        """What goes together in one forward: a few tokens, whoever they are of."""
        if self.pool.mixes or sum(len(reading.ids) for reading in (*decodes, *prompts)) <= FEW_TOKENS:
            return [decodes + prompts]
        fresh = [reading for reading in prompts if not reading.sequence.computed]
        begun = [reading for reading in prompts if reading.sequence.computed]
        return [group for group in (decodes, fresh, begun) if group]

    def _read(self, group: list[Reading]) -> Tensor:
        """-> hidden states of the places that are wanted [places, hidden]"""
        counts = [len(reading.ids) for reading in group]
        pages = self._pass([reading.sequence for reading in group], counts)
        ids = np.fromiter(chain.from_iterable(reading.ids for reading in group), np.int64, count=sum(counts))
        places = self._rotations.of([(reading.sequence.rope, reading.sequence.length) for reading in group], counts)(pages.columns)
        if self.adapters:
            places = replace(places, spans=spans_of(self.adapters, [reading.sequence.request for reading in group], counts))
        ends = np.cumsum(counts).tolist()
        wanted = [place for reading, end in zip(group, ends, strict=True) for place in range(end - reading.wanted, end)]
        return self._step(torch.from_numpy(ids).to(self.pool.keys.device), places, pages, wanted)

    def _pass(self, sequences: list[Sequence], counts: list[int]) -> PagedPass:
        tables = np.zeros((len(sequences), max(len(one.table) for one in sequences)), np.int32)
        for row, sequence in zip(tables, sequences, strict=True):
            row[: len(sequence.table)] = sequence.table
        return PagedPass(self.pool, tables, np.array(counts), np.array([sequence.computed for sequence in sequences]))
