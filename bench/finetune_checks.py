"""That two contenders of fine-tuning did the same work: a peer's first step, computed again by our decoder from the same weights.

In: the rows that the peer's trainer saw, or the reference's log-probabilities that it computed, and what it said of them. Out: pairs of
figures (theirs, ours). Rule: figures of the same arithmetic in bf16 differ by its rounding; a mask, shift or label that differs moves them
further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from beichen.checkpoints.loading import load_checkpoint
from beichen.data.batch import IGNORED, Batch
from beichen.errors import DataError
from beichen.objectives.next_token import next_token
from beichen.train.reference import score_documents
from beichen.util.progress import SILENT
from bench.finetune_work import ROW, Work

LOSS_TOLERANCE = 1e-3  # of the loss of a step: the mean of thousands of targets in bf16
# Nats, for the root of an answer's targets, the largest over all answers: of a target bf16 moves the log-probability by some hundredths,
# in either direction (ours in bf16 lies as far from ours in float32), while a target, mask or shift that differs moves it by nats.
LOG_PROBABILITY_TOLERANCE = 0.2


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One figure computed twice."""

    what: str
    theirs: float
    ours: float
    difference: float
    tolerance: float
    unit: str = ""  # of the difference; none: relative

    def as_text(self) -> str:
        apart = f"{self.difference:.1e}{self.unit} apart (at most {self.tolerance:g})"
        return f"{self.what}: {self.theirs:.5f} theirs, {self.ours:.5f} ours, {apart}"


def check_dialogues(work: Work, first_step: Path, *, targets: int) -> Agreement:
    """The loss of the first step over the peer's own rows. Raises DataError where it, or the number of all targets, differs."""
    known = int(work.dialogues.scored.sum())
    if targets != known:
        raise DataError(f"the peer trains {targets:,} targets, the samples have {known:,}")
    held = torch.load(first_step, weights_only=True)
    decoder = load_checkpoint(work.checkpoint, dtype=torch.bfloat16).decoder.train()
    batches = [as_batch(rows) for rows in held["rows"]]
    with torch.no_grad():
        total = sum(float(next_token(decoder, batch).loss_sum) for batch in batches)
    ours = total / sum(batch.target_count for batch in batches)
    return _checked("loss of the first step", held["loss"], ours, abs(held["loss"] / ours - 1.0), LOSS_TOLERANCE)


def check_pairs(work: Work, reference: Path, *, targets: int) -> Agreement:
    """Log-probabilities of all answers under the weights that both begin with. Raises DataError where they differ."""
    pairs = work.pairs
    known = int(pairs.targets.sum())
    if targets != known:
        raise DataError(f"the peer trains {targets:,} targets, the pairs have {known:,}")
    held = torch.load(reference, weights_only=True)
    theirs = torch.stack((held["ref_chosen_logps"], held["ref_rejected_logps"]), dim=1).flatten().double().numpy()
    decoder = load_checkpoint(work.checkpoint, dtype=torch.bfloat16).decoder
    documents = np.arange(2 * len(pairs))
    ours = score_documents(decoder, pairs, documents, sequence_length=ROW, rows=2, label="check", reporter=SILENT).astype(float)
    difference = float((np.abs(theirs - ours) / np.sqrt(pairs.targets)).max())
    return _checked(
        "log-probability of an answer (mean)", float(theirs.mean()), float(ours.mean()), difference, LOG_PROBABILITY_TOLERANCE,
        unit=" nats for the root of its targets",
    )  # fmt: skip


def as_batch(rows: Mapping[str, Tensor]) -> Batch:
    """A micro-batch of transformers [rows, ids] as ours: targets shifted by one, each dialogue seeing itself alone."""
    ids, labels = rows["input_ids"], rows["labels"]
    positions = rows.get("position_ids")
    if positions is None:
        positions = torch.arange(ids.shape[1]).expand(ids.shape)
    columns = torch.arange(ids.shape[1]).expand(ids.shape)
    first_visible = torch.where(positions == 0, columns, 0).cummax(dim=1).values
    targets = torch.full_like(labels, IGNORED)
    targets[:, :-1] = labels[:, 1:]
    return Batch(
        input_ids=ids, targets=targets, positions=positions.int().contiguous(), first_visible=first_visible.int(),
        target_count=int((targets != IGNORED).sum()), token_count=ids.numel(),
    )  # fmt: skip


def _checked(what: str, theirs: float, ours: float, difference: float, tolerance: float, *, unit: str = "") -> Agreement:
    found = Agreement(what=what, theirs=theirs, ours=ours, difference=difference, tolerance=tolerance, unit=unit)
    if not difference <= tolerance:
        raise DataError(f"the contenders do not do the same work: {found.as_text()}")
    return found


def share_of_targets(lengths: Sequence[int] | np.ndarray, targets: int) -> float:
    """Targets for each position, the last id of a dialogue being a target only."""
    return targets / float(np.sum(lengths) - len(lengths))
