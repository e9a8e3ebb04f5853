"""The engine: requests join and leave at every step, over one paged cache; each step gives every running one an id more.

It is passive: whoever wants answers calls ``step`` until there is nothing left to do. In: ``Request``. Out: the ids of a ``Sequence``, as
they come. Law: what a request is answered does not depend on what runs beside it, on preemption, cancelled neighbours or shared
beginnings, beyond rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.inference.adapter_batches import Adapters, by_adapter, check_adapter, spans_of
from beichen.inference.api import FinishReason, Request, TokenLogprob
from beichen.inference.blocks import Blocks
from beichen.inference.decoding_rows import DecodingRows
from beichen.inference.drafting import MEMORY, Drafting, settle
from beichen.inference.logprobs import token_logprobs
from beichen.inference.rotations import Rotations, rope_key
from beichen.inference.sampling import ConstraintState, SampledRow, Sampler, check_ids
from beichen.inference.scheduler import Scheduler, Work
from beichen.inference.sequence import Sequence
from beichen.nn.decoder import Decoder
from beichen.nn.paged_cache import BLOCK_SIZE, PagedPass, PagePool, block_bytes
from beichen.nn.stepping import FEW_TOKENS, Stepper

MAX_ROWS = 256
KV_BYTES = 2 * 2**30
STEP_TOKENS = 4096
LOGIT_ROWS = 256  # logits of a prompt that are looked at together


@dataclass(frozen=True)
class Reading:
    """What a forward reads of one sequence, behind all that has been computed."""

    sequence: Sequence
    ids: list[int]
    wanted: int  # logits of so many of its last places are looked at


class Engine:
    """A decoder that answers many requests at once. Its weights must not change meanwhile."""

    def __init__(
        self, decoder: Decoder, *, vocab_size: int | None = None, kv_bytes: int = KV_BYTES, max_rows: int = MAX_ROWS,
        step_tokens: int = STEP_TOKENS, block_size: int = BLOCK_SIZE, share_prefixes: bool = True, drafting: Drafting | None = None,
        adapters: Adapters | None = None,
    ) -> None:  # fmt: skip
        """vocab_size: ids that mean text, if fewer than the head has. kv_bytes: memory of the cache. max_rows, step_tokens: of one step.
        drafting: who guesses what comes next, to be checked several ids at a time. adapters: those that requests may ask for, by name."""
        weight = decoder.head_weight
        self.decoder, self.vocab_size = decoder, vocab_size or decoder.config.vocab_size
        self.pool = PagePool(
            decoder.config, blocks=max(1, kv_bytes // block_bytes(decoder.config, weight.dtype, block_size)),
            dtype=weight.dtype, device=weight.device, block_size=block_size,
        )  # fmt: skip
        self.blocks = Blocks(self.pool.blocks, block_size)
        self.scheduler = Scheduler(self.blocks, max_rows=max_rows, step_tokens=max(step_tokens, max_rows + 1))
        self.share_prefixes, self.drafting, self.adapters = share_prefixes, drafting, adapters or {}
        self.drafted = self.accepted = 0  # ids, of all answers
        self._step = Stepper(decoder)
        self._rotations = Rotations(decoder)
        self._sampler = Sampler(vocab_size=self.vocab_size, device=weight.device)
        self._decoding: DecodingRows | None = None
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
        drafts = self._drafts(work.decodes)
        if drafts is None and not work.prompts:
            rows, logits = work.decodes, self._logits(self._decode(work.decodes)) if work.decodes else None
        else:
            self._decoding = None
            rows, logits = self._read(self._readings(work, drafts))
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
            self._decoding = None  # it would keep what has ended
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

    @torch.inference_mode()
    def prompt_logprobs(self, request: Request) -> tuple[TokenLogprob | None, ...] | None:
        """By a pass of its own over the prompt, which only those pay for who ask; of the first id nothing is known."""
        if request.prompt_logprobs is None:
            return None
        ids, told = list(request.prompt_ids), list[TokenLogprob | None]([None])
        length = len(ids) + request.max_new_tokens
        input_ids = torch.tensor([ids], device=self.pool.keys.device)
        updates = None if request.adapter is None else self.adapters[request.adapter]
        hidden = self.decoder(input_ids, rope_length=length, updates=updates)[0, :-1]
        for begin in range(0, len(ids) - 1, LOGIT_ROWS):
            logits = self.decoder.logits(hidden[begin : begin + LOGIT_ROWS])[:, : self.vocab_size]
            following = ids[begin + 1 : begin + 1 + len(logits)]
            told += token_logprobs(logits, following, [request.prompt_logprobs] * len(following))
        return tuple(told)

    def check_integrity(self) -> None:
        """Raises AssertionError where a block is lost or owned by nobody who runs."""
        self.blocks.check_integrity(sequence.table for sequence in self.scheduler.running)

    def _drafts(self, decodes: list[Sequence]) -> list[list[int]] | None:
        """What may follow each of them; None where nobody has a guess, or where guessing does not pay."""
        drafting = self.drafting
        if drafting is None or not 0 < len(decodes) <= drafting.most_rows:
            return None
        counts = [
            0 if one.row.history_matters
            else self.scheduler.spare(one, min(drafting.length(one.luck, len(one.ids)), one.length - len(one.ids) - 1))
            for one in decodes
        ]  # fmt: skip
        drafts = drafting.drafter.draft([one.ids for one in decodes], counts)
        return drafts if any(drafts) else None

    def _readings(self, work: Work, drafts: list[list[int]] | None) -> list[list[Reading]]:
        """All that is read in this step, in as few forwards as it is quick in: a few tokens go together, whoever they are of."""
        decodes = [
            Reading(one, [one.ids[-1], *draft], 1 + len(draft))
            for one, draft in zip(work.decodes, drafts or [[]] * len(work.decodes), strict=True)
        ]
        prompts = []
        for one, count in work.prompts:
            end = one.computed + count
            prompts.append(Reading(one, one.ids[one.computed : end], int(end == len(one.ids))))
        if self.pool.mixes or sum(len(reading.ids) for reading in (*decodes, *prompts)) <= FEW_TOKENS:
            return [decodes + prompts]
        fresh = [reading for reading in prompts if not reading.sequence.computed]
        begun = [reading for reading in prompts if reading.sequence.computed]
        return [group for group in (decodes, fresh, begun) if group]

    def _decode(self, sequences: list[Sequence]) -> Tensor:
        """One token each.  -> hidden states [sequences, hidden]"""
        if self._decoding is None or self._decoding.sequences != sequences:  # by identity
            self._decoding = DecodingRows(
                sequences, self._rotations, self.pool, spans_of(self.adapters, [one.request for one in sequences], [1] * len(sequences))
            )
        ids, places = self._decoding.next()
        hidden = self._step(ids, places, self._decoding.pages)
        for sequence in sequences:
            self._compute(sequence, 1)
        return hidden

    def _read(self, groups: list[list[Reading]]) -> tuple[list[Sequence], Tensor | None]:
        """Each group in a forward of its own.  -> whose next ids can be chosen, and logits [places of theirs that are wanted, vocab]"""
        hidden, rows = [], []
        for group in groups:
            counts = [len(reading.ids) for reading in group]
            pages = self._pass([reading.sequence for reading in group], counts)
            ids = np.fromiter(chain.from_iterable(reading.ids for reading in group), np.int64, count=sum(counts))
            places = self._rotations.of([(reading.sequence.rope, reading.sequence.length) for reading in group], counts)(pages.columns)
            if self.adapters:
                places = replace(places, spans=spans_of(self.adapters, [reading.sequence.request for reading in group], counts))
            states = self._step(torch.from_numpy(ids).to(self.pool.keys.device), places, pages)
            wanted, end = list[int](), 0
            for reading in group:
                end += len(reading.ids)
                wanted += range(end - reading.wanted, end)
                if reading.wanted:
                    rows.append(reading.sequence)
                self._compute(reading.sequence, len(reading.ids) - max(0, reading.wanted - 1))  # a draft counts once it is accepted
            hidden.append(states if len(wanted) == len(states) else states[wanted])
        return rows, self._logits(torch.cat(hidden)) if rows else None

    def _logits(self, hidden: Tensor) -> Tensor:
        logits = self.decoder.logits(hidden)
        return logits if logits.shape[1] == self.vocab_size else logits[:, : self.vocab_size]

    def _pass(self, sequences: list[Sequence], counts: list[int]) -> PagedPass:
        tables = np.zeros((len(sequences), max(len(one.table) for one in sequences)), np.int32)
        for row, sequence in zip(tables, sequences, strict=True):
            row[: len(sequence.table)] = sequence.table
        return PagedPass(self.pool, tables, np.array(counts), np.array([sequence.computed for sequence in sequences]))

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
                sequence.luck = MEMORY * sequence.luck + (1 - MEMORY) * (len(ids) - 1) / len(draft)

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
