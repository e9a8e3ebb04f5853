"""The engine: requests join and leave at every step, over one paged cache; each step gives every running one an id more.

It is passive: whoever wants answers calls ``step`` until there is nothing left to do. In: ``Request``. Out: the ids of a ``Sequence``, as
they come. Law: what a request is answered does not depend on what runs beside it, on preemption, cancelled neighbours or shared
beginnings, beyond rounding.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.inference.adapter_batches import Adapters, by_adapter, check_adapter
from beichen.inference.api import FinishReason, Request, TokenLogprob
from beichen.inference.blocks import Blocks
from beichen.inference.drafting import Drafting, later_luck, settle
from beichen.inference.forwards import Forwards, Reading
from beichen.inference.logprobs import Told, prompt_logprobs, token_logprobs
from beichen.inference.rotations import rope_key
from beichen.inference.sampling import ConstraintState, SampledRow, Sampler, check_ids
from beichen.inference.scheduler import Scheduler, Work
from beichen.inference.sequence import Sequence
from beichen.nn.decoder import Decoder
from beichen.nn.paged_cache import BLOCK_SIZE, PagePool, block_bytes

MAX_ROWS = 256
KV_BYTES = 2 * 2**30
STEP_TOKENS = 4096


class Engine:
    """A decoder that answers many requests at once. Its weights must not change meanwhile."""

    def __init__(
        self, decoder: Decoder, *, vocab_size: int | None = None, kv_bytes: int = KV_BYTES, max_rows: int = MAX_ROWS,
        step_tokens: int = STEP_TOKENS, block_size: int = BLOCK_SIZE, share_prefixes: bool = True, drafting: Drafting | None = None,
        adapters: Adapters | None = None,
    ) -> None:  # fmt: skip
        """vocab_size: ids that mean text, if fewer than the head has. kv_bytes: memory of the cache. max_rows, step_tokens: of one step.
        drafting: who guesses what comes next, to be checked several ids at a time. adapters: those that requests may ask for, by name."""
        self.decoder, self.vocab_size = decoder, vocab_size or decoder.config.vocab_size
        self.pool = PagePool(
            decoder.config, blocks=max(1, kv_bytes // block_bytes(decoder.config, decoder.dtype, block_size)),
            dtype=decoder.dtype, device=decoder.device, block_size=block_size,
        )  # fmt: skip
        self.blocks = Blocks(self.pool.blocks, block_size)
        self.scheduler = Scheduler(self.blocks, max_rows=max_rows, step_tokens=max(step_tokens, max_rows + 1))
        self.share_prefixes, self.drafting, self.adapters = share_prefixes, drafting, adapters or {}
        self.drafted = self.accepted = 0  # ids, of all answers
        self._forwards = Forwards(decoder, self.pool, vocab_size=self.vocab_size, adapters=self.adapters)
        self._sampler = Sampler(vocab_size=self.vocab_size, device=decoder.device)
        self._arrivals = 0

    @property
    def busy(self) -> bool:
        """Whether ``step`` has anything to do."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def submit(self, request: Request, *, number: int = 0, constraint: ConstraintState | None = None) -> Sequence:
        """Put a request into the queue; number: which answer to it, of several; constraint: where the request's begins, of a
        ``ConstraintCompiler``. Raises SettingsError for what could never be answered."""
        self.check(request)
        if request.constraint is not None and constraint is None:
            raise SettingsError(f"{request.constraint.name}: a constraint needs a tokenizer, and this model has none")
        self._arrivals += 1
        key = rope_key(self.decoder.config, len(request.prompt_ids) + request.max_new_tokens)
        sequence = Sequence(
            request=request, row=SampledRow(request, vocab_size=self.vocab_size, constraint=constraint, number=number), rope=key,
            root=(key, request.adapter) if self.share_prefixes else self._arrivals, tag=self.scheduler.tag(request, self._arrivals),
        )  # fmt: skip
        self.scheduler.add(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """Nobody wants the rest: its blocks are free at once."""
        self.end(sequence, "cancelled")

    def end(self, sequence: Sequence, reason: FinishReason) -> None:
        """End an answer, as a stop string does; what has ended already stays as it is."""
        if sequence.finish_reason is None:
            sequence.finish_reason = reason
            self.scheduler.remove(sequence)

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """One more id for every sequence whose prompt has been read, or several where drafts hold, and more prompts read.  -> those that
        got some"""
        work = self.scheduler.next()
        if self.adapters:
            work = by_adapter(work)
        drafts = None if self.drafting is None else self.drafting.guess(work.decodes, self.scheduler.spare)
        rows, logits = self._read(work, drafts) if drafts or work.prompts else self._decode(work.decodes)
        if logits is None:
            return []
        if drafts is None:
            chosen = [[token] for token in self._sampler.pick(logits, [one.row for one in rows]).tolist()]
        else:
            drafts += [[]] * (len(rows) - len(drafts))  # prompts that have just been read
            chosen = settle(logits, drafts, [one.row for one in rows], self._sampler)
            self._learn(rows, drafts, chosen)
        self._tell(rows, chosen, logits, drafts)
        if not self.scheduler.running:
            self._forwards.forget()
        return rows

    def check(self, request: Request) -> None:
        """Raises SettingsError for ids that the model does not know and for lengths that the cache cannot hold."""
        check_adapter(self.adapters, request.adapter)
        vocab_size = self.decoder.config.vocab_size
        low, high = min(request.prompt_ids), max(request.prompt_ids)
        if low < 0 or high >= vocab_size:
            outside = low if low < 0 else high
            raise SettingsError(
                f"the prompt holds id {outside}, but the model knows 0 to {vocab_size - 1}", remedy="is this its tokenizer?"
            )
        check_ids(request, self.vocab_size)
        length = len(request.prompt_ids) + request.max_new_tokens
        if self.blocks.needed(length) > self.blocks.count:
            raise SettingsError(
                f"prompt and answer may reach {length} tokens, and the key-value cache holds {self.blocks.count * self.blocks.size}",
                remedy="ask for a shorter answer, or give the cache more memory",
                field="max_new_tokens",
            )

    def prompt_logprobs(self, request: Request) -> Generator[bool, None, Told]:
        """How likely the model held the ids of a prompt, as ``logprobs.prompt_logprobs`` tells it: by a pass of its own, which only those
        pay for who ask."""
        updates = None if request.adapter is None else self.adapters[request.adapter]
        part = self.scheduler.step_tokens
        return prompt_logprobs(self.decoder, request, vocab_size=self.vocab_size, part_tokens=part, updates=updates)

    def check_integrity(self) -> None:
        """Raises AssertionError where a block is lost or owned by nobody who runs."""
        self.blocks.check_integrity(sequence.table for sequence in self.scheduler.running)

    def _decode(self, decodes: list[Sequence]) -> tuple[list[Sequence], Tensor | None]:
        """One id each.  -> those that read one, and logits of what follows [sequences, vocab]"""
        if not decodes:
            return [], None
        logits = self._forwards.decode(decodes)
        for sequence in decodes:
            self._compute(sequence, 1)
        return decodes, logits

    def _read(self, work: Work, drafts: list[list[int]] | None) -> tuple[list[Sequence], Tensor | None]:
        """Prompts, and the last ids of whoever decodes with what is guessed to follow.  -> as ``Forwards.read`` says"""
        guesses = drafts or [[]] * len(work.decodes)
        decodes = [Reading(one, [one.ids[-1], *guess], 1 + len(guess)) for one, guess in zip(work.decodes, guesses, strict=True)]
        prompts = []
        for one, count in work.prompts:
            end = one.computed + count
            prompts.append(Reading(one, one.ids[one.computed : end], int(end == len(one.ids))))
        found = self._forwards.read(decodes, prompts)
        for reading in decodes + prompts:
            self._compute(reading.sequence, len(reading.ids) - max(0, reading.wanted - 1))  # a draft counts once it is accepted
        return found

    def _compute(self, sequence: Sequence, count: int) -> None:
        """Say that so many more columns stand in the cache, and make blocks that became full known to others."""
        size = self.blocks.size
        sequence.computed += count
        while sequence.filled < sequence.computed // size:
            begin = sequence.filled * size
            sequence.content = self.blocks.fill(sequence.table[sequence.filled], sequence.content, sequence.ids[begin : begin + size])
            sequence.filled += 1

    def _learn(self, rows: list[Sequence], drafts: list[list[int]], chosen: list[list[int]]) -> None:
        """Count what held."""
        for sequence, draft, ids in zip(rows, drafts, chosen, strict=True):
            if draft:
                self.drafted += len(draft)
                self.accepted += len(ids) - 1
                sequence.luck = later_luck(sequence.luck, drafted=len(draft), held=len(ids) - 1)

    def _tell(self, rows: list[Sequence], chosen: list[list[int]], logits: Tensor, drafts: list[list[int]] | None) -> None:
        """Give each sequence its ids, until one of them ends it."""
        asked = [sequence.request.logprobs for sequence in rows]
        told: list[TokenLogprob | None] = []
        if any(count is not None for count in asked):
            starts = np.cumsum([0, *(1 + len(draft) for draft in drafts or [[]] * len(rows))])
            places = [int(start) + number for start, ids in zip(starts, chosen, strict=False) for number in range(len(ids))]
            counts = [count for count, ids in zip(asked, chosen, strict=True) for _ in ids]
            told = token_logprobs(logits[places], list(chain.from_iterable(chosen)), counts)
        begin = 0
        for sequence, ids in zip(rows, chosen, strict=True):
            for number, token in enumerate(ids, begin):
                if told and (logprob := told[number]) is not None:
                    sequence.logprobs.append(logprob)
                self._append(sequence, token)
                if sequence.finish_reason is not None:
                    break
            else:
                self._compute(sequence, len(ids) - 1)
            begin += len(ids)

    def _append(self, sequence: Sequence, token: int) -> None:
        row = sequence.row
        sequence.ids.append(token)
        row.note(token)
        if row.constraint is not None and row.constraint.fault is not None:
            sequence.fault = row.constraint.fault
            self.cancel(sequence)
        elif token in row.stop_ids:
            self.end(sequence, "stop")
        elif len(sequence.ids) == sequence.length:
            self.end(sequence, "length")
