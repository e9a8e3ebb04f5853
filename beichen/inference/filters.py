"""Which ids may be chosen, and how likely they look: pure functions on logits [rows, vocab] float32, each with one value per row.

Filters put -inf where an id may not be chosen; ids of equal logits stay or go together, so results do not depend on the order
in which a sort leaves ties. No row looks at its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIRST_LOOK = 256  # top-p looks at so many of the likeliest ids first, and at the whole vocabulary only for rows that need more
BINS, BINNED_NATS = 2048, 20.0  # of the whole vocabulary; what is less likely than the likeliest by more is in the last bin


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
    rows = (top_p < 1.0).nonzero()[:, 0]
    if len(rows):
        ranked = logits[rows].topk(min(FIRST_LOOK, logits.shape[1])).values
        threshold[rows], reached = _last_kept(ranked, total[rows], top_p[rows, None].double())
        rows = rows[~reached]
    if len(rows):
        wanted = top_p[rows, None].double()
        ranked, before = _ranked_around(logits[rows], total[rows], wanted)
        threshold[rows], _ = _last_kept(ranked, total[rows], wanted, before)
    return logits.masked_fill(logits < threshold, -torch.inf)


def _last_kept(ranked: Tensor, total: Tensor, wanted: Tensor, before: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """The logit at which the mass of ``ranked`` [rows, n], falling, behind a mass ``before`` [rows, 1], reaches ``wanted`` [rows, 1].

    -> [rows, 1], and whether it does [rows]
    """
    mass = (ranked - total).double().exp().cumsum(1) + before
    likelier = torch.nn.functional.pad(mass[:, :-1], (1, 0), value=-1.0)  # the first is kept whatever it weighs
    last = ((likelier < wanted).sum(1, keepdim=True) - 1).clamp(min=0)
    return ranked.gather(1, last), mass[:, -1] >= wanted[:, 0]


def _ranked_around(logits: Tensor, total: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Only the ids among which the mass passes ``wanted`` [rows, 1] need an order: all are put into bins of like logits, which is cheap.

    -> logits of that bin, falling, -inf behind them [rows, largest bin], and the mass of all likelier bins [rows, 1]
    """
    bins = ((logits.amax(1, keepdim=True) - logits) * (BINS / BINNED_NATS)).clamp(max=BINS - 1).long()
    mass = torch.zeros(len(logits), BINS, dtype=torch.float64, device=logits.device)
    cumulated = mass.scatter_add_(1, bins, (logits - total).double().exp()).cumsum(1)
    passing = (cumulated < wanted).sum(1, keepdim=True).clamp(max=BINS - 1)
    before = torch.nn.functional.pad(cumulated, (1, 0)).gather(1, passing)
    inside = bins == passing
    return logits.masked_fill(~inside, -torch.inf).topk(int(inside.sum(1).max())).values, before


def keep_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Keep ids that are at least ``min_p`` [rows] times as likely as the likeliest."""
    return logits.masked_fill(logits < logits.amax(1, keepdim=True) + min_p.log()[:, None], -torch.inf)
