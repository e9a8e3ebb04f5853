"""How likely the model held the ids of a prompt or an answer: from logits as they left the model, before sampling changes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.inference.api import Completion, TokenLogprob


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
