"""Several tokens from one pass: a cheap draft is checked by the model, and what comes out is distributed as the model alone would draw.

Speculative sampling after Leviathan and others (arXiv 2211.17192): a drafted id is kept with probability target / draft; the first one
that is not is drawn anew from what the target has beyond the draft. Pure functions on tensors; the engine owns models and caches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from beichen.inference.drawing import draw_from, uniform_numbers
from beichen.inference.sampling import SampledRow


def accept(
    draft_ids: Tensor, draft_probabilities: Tensor | None, target_probabilities: Tensor, uniforms: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How many drafted ids stay, and the id that follows them.  -> [rows], [rows]

    draft_ids [rows, k]; draft_probabilities [rows, k, vocab], what they were drawn from, or ``None`` where they were not drawn but simply
    proposed; target_probabilities [rows, k + 1, vocab]; uniforms [rows, k + 1, 2] in [0, 1): for each place one number for keeping and one
    for drawing; lengths [rows]: how many of the k are real. A row of one-hot targets (temperature 0) keeps exactly the equal beginning.
    """
    rows, k = draft_ids.shape
    places = torch.arange(k, device=draft_ids.device)
    target = target_probabilities[:, :k].gather(2, draft_ids[:, :, None])[:, :, 0]
    draft = torch.ones_like(target) if draft_probabilities is None else draft_probabilities.gather(2, draft_ids[:, :, None])[:, :, 0]
    kept = uniforms[:, :k, 0] * draft < target
    if lengths is not None:
        kept &= places < lengths[:, None]
    accepted = kept.long().cumprod(1).sum(1)
    every = torch.arange(rows, device=draft_ids.device)
    weights = target_probabilities[every, accepted]
    if k:
        end = torch.full_like(accepted, k) if lengths is None else lengths
        refused = (accepted < end).nonzero()[:, 0]  # rows that end at an id that did not stay
        place = accepted[refused]
        if draft_probabilities is None:
            weights[refused] = weights[refused].scatter(1, draft_ids[refused, place][:, None], 0.0)
        else:
            weights[refused] = (weights[refused] - draft_probabilities[refused, place]).clamp(min=0)
    return accepted, draw_from(weights, uniforms[every, accepted, 1])


def uniforms_for(rows: Sequence[SampledRow], places: int) -> Tensor:
    """Numbers for the next ``places`` tokens of each row [rows, places, 2]; by the second of a place ``Sampler.pick`` draws.

    Each belongs to one place of the answer, so that no round of drafts uses a number that an earlier one has used.
    """
    seeds = np.array([row.seed for row in rows], dtype=np.uint64)[:, None]
    indices = np.array([row.index for row in rows], dtype=np.uint64)[:, None] + np.arange(places, dtype=np.uint64)
    keeping = uniform_numbers(seeds ^ np.uint64(0x5851F42D4C957F2D), indices)  # a stream of its own
    return torch.from_numpy(np.stack([keeping, uniform_numbers(seeds, indices)], axis=2))


def propose(ids: Sequence[int] | np.ndarray, count: int, *, longest: int = 4, shortest: int = 1) -> list[int]:
    """Up to ``count`` ids that followed the last time that the end of ``ids`` (prompt and answer) stood there before.

    The longest end counts, from ``longest`` down to ``shortest`` ids; nothing is proposed where none came before.
    """
    known = np.asarray(ids)
    for size in range(min(longest, len(known) - 1), shortest - 1, -1):
        windows = np.lib.stride_tricks.sliding_window_view(known[:-1], size)
        found = (windows == known[len(known) - size :]).all(1).nonzero()[0]
        if len(found):
            begin = int(found[-1]) + size
            return [int(token) for token in known[begin : begin + count]]
    return []
