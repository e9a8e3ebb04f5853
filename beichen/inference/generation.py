"""Our ``Generator``: requests in, answers out, many at once or one as it grows.

Requests of like length and equal rope rule run together; a row that has finished leaves the batch. Neither the batch a request
falls into nor its place there changes its answer beyond rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.inference.api import Completion, Delta, FinishReason, Request, TokenLogprob
from beichen.inference.decoding import PREFILL_TOKENS, DecodingBatch, rope_key
from beichen.inference.logprobs import token_logprobs
from beichen.inference.sampling import SampledRow, Sampler, check_ids
from beichen.inference.stopping import AnswerText
from beichen.nn.decoder import Decoder
from beichen.text.tokenizer import Tokenizer
from beichen.util.progress import SILENT, Reporter, Task

MAX_ROWS = 256
CACHE_BYTES = 2 * 2**30
_LOGIT_ROWS = 256  # logits of a prompt that are looked at together


class DecoderGenerator:
    """A decoder and its tokenizer that answer requests. Without a tokenizer it answers in ids alone."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer | None, *,
        max_rows: int = MAX_ROWS, cache_bytes: int = CACHE_BYTES, prefill_tokens: int = PREFILL_TOKENS,
    ) -> None:  # fmt: skip
        """max_rows, cache_bytes: how large a batch may be. prefill_tokens: prompt tokens that one pass reads."""
        self.decoder, self.tokenizer = decoder, tokenizer
        self.max_rows, self.cache_bytes, self.prefill_tokens = max_rows, cache_bytes, prefill_tokens
        vocab_size = decoder.config.vocab_size
        self.vocab_size = vocab_size if tokenizer is None else min(vocab_size, tokenizer.vocab_size)  # rows beyond it mean no text

    def generate(self, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
        """The answers, in the order of the requests."""
        for request in requests:
            self._check(request)
        answers: dict[int, Completion] = {}
        with reporter.track("answering", total=len(requests), unit="answers") as task:
            for numbers in self._batches(requests):
                batch = [requests[number] for number in numbers]
                answers.update(zip(numbers, self._answer(batch, task), strict=True))
        return [answers[number] for number in range(len(requests))]

    def stream(self, request: Request) -> Iterator[Delta]:
        """One answer as it grows."""
        self._check(request)
        return self._stream(request)

    def _stream(self, request: Request) -> Iterator[Delta]:
        text = AnswerText(self.tokenizer, request.stop_strings, min_new_tokens=request.min_new_tokens)
        reason: FinishReason | None = None
        pending: tuple[int, ...] = ()
        logprobs: list[TokenLogprob] = []
        run = _Run(self, [request])
        while reason is None:
            token = int(run.next_ids()[0])
            run.check([0])
            if token in run.rows[0].stop_ids:
                reason, shown = "stop", ""
            else:
                pending, shown = (*pending, token), text.push(token)
                logprobs += [one for one in run.logprobs if one is not None]
                if text.stopped:
                    reason = "stop"
                elif run.steps == request.max_new_tokens:
                    reason = "length"
            if reason is not None:
                shown += text.finish()
            if reason is not None or shown:
                told = None if request.logprobs is None else tuple(logprobs)
                yield Delta(text=shown, ids=pending, logprobs=told, finish_reason=reason)
                pending, logprobs = (), []

    def _answer(self, requests: Sequence[Request], task: Task) -> list[Completion]:
        """One batch to its end."""
        run = _Run(self, requests)
        device = run.device
        longest = max(request.max_new_tokens for request in requests)
        limits = torch.tensor([request.max_new_tokens for request in requests], device=device)
        stops = _stop_table(run.rows, device)
        texts = {
            row: AnswerText(self.tokenizer, request.stop_strings, min_new_tokens=request.min_new_tokens)
            for row, request in enumerate(requests) if request.stop_strings
        }  # fmt: skip
        told: dict[int, list[TokenLogprob]] = {row: [] for row, request in enumerate(requests) if request.logprobs is not None}
        shown = dict.fromkeys(texts, "")
        written = torch.zeros(len(requests), longest, dtype=torch.int64, device=device)
        lengths = torch.zeros(len(requests), dtype=torch.int64, device=device)
        stopped = torch.zeros(len(requests), dtype=torch.bool, device=device)
        alive = torch.arange(len(requests), device=device)  # request of each row of the batch
        done = torch.zeros(len(requests), dtype=torch.bool, device=device)  # rows that have finished but still run
        while True:
            ids = run.next_ids()
            run.check((~done).nonzero()[:, 0].tolist())
            written[alive, run.steps - 1] = ids
            at_stop = (stops[alive] == ids[:, None]).any(1) & ~done
            ended = at_stop.clone()
            for row, request in enumerate(alive.tolist()) if told else ():
                if (one := run.logprobs[row]) is not None:
                    told[request].append(one)
            for row, request in enumerate(alive.tolist()) if texts else ():
                if request in texts and not (done[row] or at_stop[row]):
                    shown[request] += texts[request].push(int(ids[row]))
                    ended[row] |= texts[request].stopped
            full = (limits[alive] == run.steps) & ~ended & ~done
            fresh = ended | full
            if not bool(fresh.any()):
                continue
            lengths[alive[fresh]] = run.steps - at_stop[fresh].long()
            stopped[alive[fresh]] = ended[fresh]
            done |= fresh
            task.advance(int(fresh.sum()))
            kept = (~done).nonzero()[:, 0]
            if not len(kept):
                break
            if 8 * (len(alive) - len(kept)) >= len(alive):  # a smaller batch saves more than the copy of the cache costs
                run.keep_rows(kept)
                alive, done = alive[kept], done[kept]
        return [
            self._completion(requests[row], ids[:length], stop, (shown[row] + texts[row].finish()) if row in texts else None, told.get(row))
            for row, (ids, length, stop) in enumerate(zip(written.tolist(), lengths.tolist(), stopped.tolist(), strict=True))
        ]

    def _completion(
        self, request: Request, ids: list[int], stopped: bool, text: str | None, logprobs: list[TokenLogprob] | None
    ) -> Completion:
        if text is None:
            text = "" if self.tokenizer is None else self.tokenizer.decode(ids)
        return Completion(
            text=text, ids=tuple(ids), finish_reason="stop" if stopped else "length",
            logprobs=None if logprobs is None else tuple(logprobs[: len(ids)]), prompt_logprobs=self._prompt_logprobs(request),
        )  # fmt: skip

    @torch.inference_mode()
    def _prompt_logprobs(self, request: Request) -> tuple[TokenLogprob | None, ...] | None:
        """By a pass of its own over the prompt; only who asks pays for it."""
        if request.prompt_logprobs is None:
            return None
        ids, told = list(request.prompt_ids), list[TokenLogprob | None]([None])
        length = len(ids) + request.max_new_tokens
        hidden = self.decoder(torch.tensor([ids], device=self.decoder.head_weight.device), rope_length=length)[0, :-1]
        for begin in range(0, len(ids) - 1, _LOGIT_ROWS):
            logits = self.decoder.logits(hidden[begin : begin + _LOGIT_ROWS])[:, : self.vocab_size]
            following = ids[begin + 1 : begin + 1 + len(logits)]
            told += token_logprobs(logits, following, [request.prompt_logprobs] * len(following))
        return tuple(told)

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Numbers of requests that run together: one rope rule, like lengths, within the limits of a batch."""
        config = self.decoder.config
        column_bytes = 2 * config.num_hidden_layers * config.key_value_size * self.decoder.head_weight.dtype.itemsize
        lengths = [len(request.prompt_ids) + request.max_new_tokens for request in requests]
        rules = {length: rope_key(config, length) for length in set(lengths)}
        order = sorted(range(len(requests)), key=lambda number: (rules[lengths[number]], len(requests[number].prompt_ids), lengths[number]))
        batch: list[int] = []
        columns = room = 0
        for number in order:
            columns, room = max(columns, len(requests[number].prompt_ids)), max(room, requests[number].max_new_tokens)
            too_large = len(batch) == self.max_rows or (len(batch) + 1) * (columns + room) * column_bytes > self.cache_bytes
            if batch and (too_large or rules[lengths[number]] != rules[lengths[batch[0]]]):
                yield batch
                batch, columns, room = [], len(requests[number].prompt_ids), requests[number].max_new_tokens
            batch.append(number)
        if batch:
            yield batch

    def _check(self, request: Request) -> None:
        vocab_size = self.decoder.config.vocab_size
        outside = next((token for token in request.prompt_ids if not 0 <= token < vocab_size), None)
        if outside is not None:
            raise SettingsError(
                f"the prompt holds id {outside}, but the model knows 0 to {vocab_size - 1}", remedy="is this its tokenizer?"
            )
        check_ids(request, self.vocab_size)
        if request.constraint is not None:
            raise SettingsError(f"{request.constraint.name}: this generator follows no constraint")
        if request.stop_strings and self.tokenizer is None:
            raise SettingsError("stop strings need a tokenizer, and this model has none", remedy="give stop_ids instead")


class _Run:
    """Prompts, cache and sampler of one batch; ``next_ids`` is one step."""

    def __init__(self, generator: DecoderGenerator, requests: Sequence[Request]) -> None:
        self.generator, self.requests = generator, requests
        self.device = generator.decoder.head_weight.device
        self.steps = 0  # ids chosen so far, per row
        self.rows = [SampledRow(request, vocab_size=generator.vocab_size) for request in requests]
        self.logprobs: list[TokenLogprob | None] = []  # of the ids chosen last
        self._sampler = Sampler(vocab_size=generator.vocab_size, device=self.device)
        self._ids: Tensor | None = None

    @torch.inference_mode()
    def next_ids(self) -> Tensor:
        """Choose one more id per row.  -> [rows]"""
        if self._ids is None:
            logits = self._prefill()
        else:
            logits = self._batch.step(self._ids)
        logits = logits[:, : self.generator.vocab_size]
        self._ids = self._sampler.pick(logits, self.rows)
        ids = self._ids.tolist()
        self.logprobs = token_logprobs(logits, ids, [row.request.logprobs for row in self.rows])
        for row, token in zip(self.rows, ids, strict=True):
            row.note(token)
        self.steps += 1
        return self._ids

    def check(self, rows: Sequence[int]) -> None:
        """Raise what keeps one of these rows from going on as it was asked for."""
        for row in rows:
            if (fault := self.rows[row].fault) is not None:
                raise fault

    def _prefill(self) -> Tensor:
        lengths = [len(request.prompt_ids) + request.max_new_tokens for request in self.requests]
        room = max(request.max_new_tokens for request in self.requests)
        prompts = [request.prompt_ids for request in self.requests]
        self._batch = DecodingBatch(self.generator.decoder, rope_length=max(lengths))
        return self._batch.prefill(prompts, room=room, chunk_tokens=self.generator.prefill_tokens)

    @torch.inference_mode()
    def keep_rows(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        assert self._ids is not None
        self._batch.keep_rows(rows)
        self.rows = [self.rows[row] for row in rows.tolist()]
        self._ids = self._ids[rows]


def _stop_table(rows: Sequence[SampledRow], device: torch.device) -> Tensor:
    """Stop ids of each row [rows, most], filled up with -1, which is no id."""
    most = max(1, max(len(row.stop_ids) for row in rows))
    return torch.tensor([[*row.stop_ids, *[-1] * (most - len(row.stop_ids))] for row in rows], device=device)
