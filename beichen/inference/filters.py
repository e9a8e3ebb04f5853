"""Which ids may be chosen, and how likely they look: pure functions on logits [rows, vocab] float32, each with one value per row.

Filters put -inf where an id may not be chosen; ids of equal logits stay or go together, so results do not depend on the order
in which a sort leaves ties. No row looks at its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIRST_LOOK = 256  # top-p looks at so many of the likeliest ids first, and sorts the whole vocabulary only for rows that need more


def penalize(values: Tensor, counts: Tensor, *, repetition: Tensor, presence: Tensor, frequency: Tensor) -> Tensor:
    """Logits of ids that were there: ``values`` and ``counts`` (times in the answer) [entries], each with its row's penalties [entries].

    Repetition divides positive logits and multiplies negative ones; presence is taken off once, frequency as often as the answer has it.
    """
    punished = torch.where(values > 0, values / repetition, values * repetition)
    return punished - frequency * counts - presence * (counts > 0)


def keep_top_k(logits: Tensor, top_k: Tensor) -> Tensor:
    """Keep the ``top_k`` [rows] likeliest ids of each row."""
    ranked = logits.topk(int(top_k.max())).values
    return logits.masked_fill(logits < ranked.gather(1, top_k[:, None] - 1), -torch.inf)


def keep_top_p(logits: Tensor, top_p: Tensor) -> Tensor:
    """Keep the smallest set of likeliest ids whose mass reaches ``top_p`` [rows]; 1 keeps all."""
    total = logits.logsumexp(1, keepdim=True)
    threshold = torch.full_like(total, -torch.inf)
    open_rows = (top_p < 1.0).nonzero()[:, 0]
    for width in (FIRST_LOOK, logits.shape[1]):
        if not len(open_rows):
            break
        ranked = logits[open_rows].topk(min(width, logits.shape[1])).values
        mass = (ranked - total[open_rows]).double().exp().cumsum(1)
        wanted = top_p[open_rows, None].double()
        before = torch.nn.functional.pad(mass[:, :-1], (1, 0))  # mass of all likelier ids
        last = ((before < wanted).sum(1, keepdim=True) - 1).clamp(min=0)
        threshold[open_rows] = ranked.gather(1, last)
        open_rows = open_rows[mass[:, -1] < wanted[:, 0]]
    return logits.masked_fill(logits < threshold, -torch.inf)


def keep_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Keep ids that are at least ``min_p`` [rows] times as likely as the likeliest."""
    return logits.masked_fill(logits < logits.amax(1, keepdim=True) + min_p.log()[:, None], -torch.inf)
