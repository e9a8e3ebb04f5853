"""How likely the model held the ids of a prompt or an answer: from logits as they left the model, before sampling changes them."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence

import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.inference.api import Completion, Request, TokenLogprob
from beichen.nn.cache import DenseCache
from beichen.nn.decoder import Decoder
from beichen.nn.spans import Updates

LOGIT_ROWS = 256  # logits of a prompt that are looked at together

Told = tuple[TokenLogprob | None, ...]


def token_logprobs(logits: Tensor, ids: Sequence[int], counts: Sequence[int | None]) -> list[TokenLogprob | None]:
    """For each row of logits [rows, vocab] its id, with ``counts`` likeliest alternatives; ``None`` where nothing is asked.

    The softmax is over all columns that are given: a caller leaves out those of ids that have no text. Such an id (a prompt may hold one)
    is impossible: its log-probability is -inf.
    """
    asked = [row for row, count in enumerate(counts) if count is not None]
    told: list[TokenLogprob | None] = [None] * len(counts)
    if not asked:
        return told
    most = min(max(counts[row] or 0 for row in asked), logits.shape[1])
    chosen = torch.tensor([ids[row] for row in asked], device=logits.device)
    logprobs = (logits if len(asked) == len(counts) else logits[asked]).float().log_softmax(1)
    possible = chosen < logits.shape[1]
    own = logprobs.gather(1, torch.where(possible, chosen, 0)[:, None])[:, 0].masked_fill(~possible, -torch.inf).tolist()
    best = logprobs.topk(most)
    for row, value, top_ids, top_values in zip(asked, own, best.indices.tolist(), best.values.tolist(), strict=True):
        top = tuple(zip(top_ids, top_values, strict=True))[: counts[row]]
        told[row] = TokenLogprob(id=ids[row], logprob=value, top=top)
    return told


def prompt_logprobs(
    decoder: Decoder, request: Request, *, vocab_size: int, part_tokens: int, updates: Updates | None = None
) -> Generator[bool, None, Told]:
    """A generator that returns one for each id of the prompt; of the first nothing is known. It reads the prompt anew and yields between
    parts of at most ``part_tokens`` tokens: False, since the cache of the earlier parts is held. vocab_size: ids that mean text. updates:
    an adapter that moves the decoder."""
    ids, told, count = list(request.prompt_ids), list[TokenLogprob | None]([None]), request.prompt_logprobs
    for number, hidden in enumerate(_read(decoder, ids, len(ids) + request.max_new_tokens, part_tokens, updates)):
        if number:
            yield False
        with torch.inference_mode():
            for rows in hidden.split(LOGIT_ROWS):
                following = ids[len(told) : len(told) + len(rows)]
                if following:
                    logits = decoder.logits(rows[: len(following)])[:, :vocab_size]
                    told += token_logprobs(logits, following, [count] * len(following))
    return tuple(told)


def _read(decoder: Decoder, ids: Sequence[int], rope_length: int, part_tokens: int, updates: Updates | None) -> Iterator[Tensor]:
    """Hidden states of one text, part after part: [tokens, hidden]."""
    cache = None
    if len(ids) > part_tokens:
        cache = DenseCache(decoder.config, rows=1, capacity=len(ids), dtype=decoder.dtype, device=decoder.device)
    for begin in range(0, len(ids), part_tokens):
        with torch.inference_mode():
            part = torch.tensor([ids[begin : begin + part_tokens]], device=decoder.device)
            hidden = decoder(part, cache=cache, rope_length=rope_length, updates=updates)[0]
        yield hidden


def best_of(answers: Sequence[Completion], count: int) -> list[Completion]:
    """The ``count`` answers that are likeliest per token, best first; equal ones as they came. Raises SettingsError for
    answers that do not tell their logprobs."""
    scores: list[float] = []
    for answer in answers:
        if answer.logprobs is None:
            raise SettingsError("logprobs=None: the best of several answers are found by their logprobs", remedy="ask with logprobs=0")
        scores.append(math.fsum(one.logprob for one in answer.logprobs) / max(1, len(answer.logprobs)))
    order = sorted(range(len(answers)), key=lambda number: -scores[number])
    return [answers[number] for number in order[:count]]
