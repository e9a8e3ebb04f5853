"""The engine: requests join and leave at every step, over one paged cache; each step gives every running one an id more.

It is passive: whoever wants answers calls ``step`` until there is nothing left to do. In: ``Request``. Out: the ids of a ``Sequence``, as
they come. Law: what a request is answered does not depend on what runs beside it, on preemption, cancelled neighbours or shared
beginnings, beyond rounding.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.inference.api import FinishReason, Request, TokenLogprob
from beichen.inference.blocks import Blocks
from beichen.inference.logprobs import token_logprobs
from beichen.inference.rotations import Rotations, rope_key
from beichen.inference.sampling import ConstraintState, SampledRow, Sampler, check_ids
from beichen.inference.scheduler import Scheduler
from beichen.inference.sequence import Sequence
from beichen.nn.decoder import Decoder
from beichen.nn.paged_cache import BLOCK_SIZE, PagedPass, PagePool, block_bytes
from beichen.nn.stepping import Stepper

MAX_ROWS = 256
KV_BYTES = 2 * 2**30
STEP_TOKENS = 4096
LOGIT_ROWS = 256  # logits of a prompt that are looked at together


class Engine:
    """A decoder that answers many requests at once. Its weights must not change meanwhile."""

    def __init__(
        self, decoder: Decoder, *, vocab_size: int | None = None, kv_bytes: int = KV_BYTES, max_rows: int = MAX_ROWS,
        step_tokens: int = STEP_TOKENS, block_size: int = BLOCK_SIZE, share_prefixes: bool = True,
    ) -> None:  # fmt: skip
        """vocab_size: ids that mean text, if fewer than the head has. kv_bytes: memory of the cache. max_rows, step_tokens: of one step."""
        weight = decoder.head_weight
        self.decoder, self.vocab_size = decoder, vocab_size or decoder.config.vocab_size
        self.pool = PagePool(
            decoder.config, blocks=max(1, kv_bytes // block_bytes(decoder.config, weight.dtype, block_size)),
            dtype=weight.dtype, device=weight.device, block_size=block_size,
        )  # fmt: skip
        self.blocks = Blocks(self.pool.blocks, block_size)
        self.scheduler = Scheduler(self.blocks, max_rows=max_rows, step_tokens=max(step_tokens, max_rows + 1))
        self.share_prefixes = share_prefixes
        self._step = Stepper(decoder)
        self._rotations = Rotations(decoder)
        self._sampler = Sampler(vocab_size=self.vocab_size, device=weight.device)
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
            root=key if self.share_prefixes else self._arrivals, tag=self.scheduler.tag(request, self._arrivals),
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
        """One more id for every sequence whose prompt has been read, and more prompts read.  -> those that got an id"""
        work = self.scheduler.next()
        rows, hidden = list(work.decodes), []
        if work.decodes:
            hidden.append(self._decode(work.decodes))
        fresh = [(sequence, count) for sequence, count in work.prompts if not sequence.computed]
        going = [(sequence, count) for sequence, count in work.prompts if sequence.computed]
        for prompts in (fresh, going):
            if prompts:
                ended, last = self._read(prompts)
                rows += ended
                hidden.append(last)
        if not rows:
            return []
        logits = self.decoder.logits(torch.cat(hidden))[:, : self.vocab_size]
        ids = self._sampler.pick(logits, [one.row for one in rows]).tolist()
        told = token_logprobs(logits, ids, [one.request.logprobs for one in rows])
        for sequence, token, logprob in zip(rows, ids, told, strict=True):
            self._append(sequence, token, logprob)
        return rows

    def check(self, request: Request) -> None:
        """Raises SettingsError for ids that the model does not know and for lengths that the cache cannot hold."""
        vocab_size = self.decoder.config.vocab_size
        outside = next((token for token in request.prompt_ids if not 0 <= token < vocab_size), None)
        if outside is not None:
            raise SettingsError(
                f"the prompt holds id {outside}, but the model knows 0 to {vocab_size - 1}", remedy="is this its tokenizer?"
            )
        check_ids(request, self.vocab_size)
        length = len(request.prompt_ids) + request.max_new_tokens
        if self.blocks.needed(length) > self.blocks.count:
            raise SettingsError(
                f"prompt and answer may reach {length} tokens, and the key-value cache holds {self.blocks.count * self.blocks.size}",
                remedy="ask for a shorter answer, or give the cache more memory",
            )

    @torch.inference_mode()
    def prompt_logprobs(self, request: Request) -> tuple[TokenLogprob | None, ...] | None:
        """By a pass of its own over the prompt, which only those pay for who ask; of the first id nothing is known."""
        if request.prompt_logprobs is None:
            return None
        ids, told = list(request.prompt_ids), list[TokenLogprob | None]([None])
        length = len(ids) + request.max_new_tokens
        hidden = self.decoder(torch.tensor([ids], device=self.pool.keys.device), rope_length=length)[0, :-1]
        for begin in range(0, len(ids) - 1, LOGIT_ROWS):
            logits = self.decoder.logits(hidden[begin : begin + LOGIT_ROWS])[:, : self.vocab_size]
            following = ids[begin + 1 : begin + 1 + len(logits)]
            told += token_logprobs(logits, following, [request.prompt_logprobs] * len(following))
        return tuple(told)

    def check_integrity(self) -> None:
        """Raises AssertionError where a block is lost or owned by nobody who runs."""
        self.blocks.check_integrity(sequence.table for sequence in self.scheduler.running)

    def _decode(self, sequences: list[Sequence]) -> Tensor:
        """One token each.  -> hidden states [sequences, hidden]"""
        ids = np.array([sequence.ids[-1] for sequence in sequences])
        pasts = np.array([sequence.computed for sequence in sequences])
        ones = np.ones_like(pasts)
        places = self._rotations.places([(one.rope, one.length) for one in sequences], ones, pasts)
        hidden = self._step(torch.from_numpy(ids).to(self.pool.keys.device), places, self._pass(sequences, ones, pasts))
        self._computed(sequences, ones)
        return hidden

    def _read(self, prompts: list[tuple[Sequence, int]]) -> tuple[list[Sequence], Tensor]:
        """The next tokens of prompts, side by side.  -> those that are read to their end, and the hidden state at each end"""
        sequences = [sequence for sequence, _ in prompts]
        counts = np.array([count for _, count in prompts])
        pasts = np.array([sequence.computed for sequence in sequences])
        spans = [(sequence, past, past + count) for sequence, past, count in zip(sequences, pasts.tolist(), counts.tolist(), strict=True)]
        ids = np.fromiter(chain.from_iterable(sequence.ids[begin:end] for sequence, begin, end in spans), np.int64)
        places = self._rotations.places(
            [(one.rope, one.length) for one in sequences], counts, np.concatenate([np.arange(begin, end) for _, begin, end in spans])
        )
        embedded = self.decoder.embed(torch.from_numpy(ids).to(self.pool.keys.device)[None])
        hidden = self.decoder.run(embedded, places, cache=self._pass(sequences, counts, pasts))[0]
        self._computed(sequences, counts)
        ends = np.cumsum(counts) - 1
        ended = [number for number, (sequence, _, end) in enumerate(spans) if end == len(sequence.ids)]
        return [sequences[number] for number in ended], hidden[torch.from_numpy(ends[ended]).to(hidden.device)]

    def _pass(self, sequences: list[Sequence], counts: np.ndarray, pasts: np.ndarray) -> PagedPass:
        tables = np.zeros((len(sequences), max(len(one.table) for one in sequences)), np.int32)
        for row, sequence in zip(tables, sequences, strict=True):
            row[: len(sequence.table)] = sequence.table
        return PagedPass(self.pool, tables, counts, pasts)

    def _computed(self, sequences: list[Sequence], counts: np.ndarray) -> None:
        """Say what has been computed, and make blocks that became full known to others."""
        size = self.blocks.size
        for sequence, count in zip(sequences, counts.tolist(), strict=True):
            sequence.computed += count
            while sequence.filled < sequence.computed // size:
                begin = sequence.filled * size
                sequence.content = self.blocks.fill(sequence.table[sequence.filled], sequence.content, sequence.ids[begin : begin + size])
                sequence.filled += 1

    def _append(self, sequence: Sequence, token: int, logprob: TokenLogprob | None) -> None:
        sequence.ids.append(token)
        sequence.row.note(token)
        if logprob is not None:
            sequence.logprobs.append(logprob)
        sequence.fault = sequence.row.fault
        if sequence.fault is not None:
            self.cancel(sequence)
        elif token in sequence.row.stop_ids:
            self.end(sequence, "stop")
        elif len(sequence.ids) == sequence.length:
            self.end(sequence, "length")
