"""``Row`` and ``Batch``: what packing lays out, the model reads and the objectives score.

Legend of shapes: [rows, tokens]. Every query sees one interval of columns, ``first_visible[r, t] .. t``: that one
array says causal, packed (documents isolated) and left-padded alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

IGNORED = -100  # target of a position that is not scored


@dataclass(frozen=True, kw_only=True)
class RowDocuments:
    """Which document of a data set each position of a row belongs to, where documents are judged as wholes."""

    place: np.ndarray  # [tokens] int32: which of ``number``; its length where the position is padding
    number: np.ndarray  # [documents] int64: their numbers in the data set
    units: int  # what the loss counts: pairs, or examples
    good: np.ndarray | None = None  # [documents] bool: what each was called, where documents are not compared in pairs
    mismatched: Row | None = None  # the same prompts, with answers of others


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of ``tokens`` positions; targets are already shifted: ``targets[t]`` follows ``input_ids[t]``."""

    input_ids: np.ndarray  # [tokens] int32
    targets: np.ndarray  # [tokens] int32, IGNORED where nothing is scored
    positions: np.ndarray  # [tokens] int32, 0 at the start of every document
    first_visible: np.ndarray  # [tokens] int32, first column of the document that this position belongs to
    token_count: int  # positions that hold a token; the rest, at the end, is padding
    weights: np.ndarray | None = None  # [tokens] float32: what each target counts in the loss; None: all alike
    documents: RowDocuments | None = None


@dataclass(frozen=True, kw_only=True)
class Documents:
    """``RowDocuments`` of a batch: the documents of all its rows, numbered on."""

    place: torch.Tensor  # [rows, tokens] int64: which of ``number``; its length where the position is padding
    number: torch.Tensor  # [documents] int64
    units: int
    good: torch.Tensor | None = None  # [documents] bool
    mismatched: Batch | None = None

    def to(self, device: torch.device) -> Documents:
        return replace(
            self, place=self.place.to(device, non_blocking=True), number=self.number.to(device, non_blocking=True),
            good=None if self.good is None else self.good.to(device, non_blocking=True),
            mismatched=None if self.mismatched is None else self.mismatched.to(device),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows side by side on one device."""

    input_ids: torch.Tensor  # [rows, tokens] int64
    targets: torch.Tensor  # [rows, tokens] int64
    positions: torch.Tensor  # [rows, tokens] int32
    first_visible: torch.Tensor  # [rows, tokens] int32
    target_count: int  # scored positions
    token_count: int  # positions that hold a token, padding excluded
    weights: torch.Tensor | None = None  # [rows, tokens] float32: what each target counts in the loss; None: all alike
    documents: Documents | None = None  # where documents are judged as wholes

    @property
    def target_weight(self) -> float:
        """The sum of what the targets count: the loss of a step is divided by it, so that weights say shares, not sizes."""
        if self.documents is not None:
            return float(self.documents.units)
        return float(self.target_count) if self.weights is None else float(self.weights[self.targets != IGNORED].double().sum())

    def to(self, device: torch.device) -> Batch:
        move = {name: getattr(self, name).to(device, non_blocking=True) for name in ("input_ids", "targets", "positions", "first_visible")}
        weights = None if self.weights is None else self.weights.to(device, non_blocking=True)
        documents = None if self.documents is None else self.documents.to(device)
        return replace(self, **move, weights=weights, documents=documents)


def collate(rows: list[Row]) -> Batch:
    """Rows of equal length to a batch on the CPU."""
    stack = {
        name: torch.from_numpy(np.stack([getattr(row, name) for row in rows]))
        for name in ("input_ids", "targets", "positions", "first_visible")
    }
    return Batch(
        input_ids=stack["input_ids"].long(),
        targets=stack["targets"].long(),
        positions=stack["positions"].int(),
        first_visible=stack["first_visible"].int(),
        target_count=int((stack["targets"] != IGNORED).sum()),
        token_count=int(sum(row.token_count for row in rows)),
        weights=_weights(rows),
        documents=_documents(rows),
    )


def _weights(rows: list[Row]) -> torch.Tensor | None:
    if all(row.weights is None for row in rows):
        return None
    alike = np.ones(len(rows[0].input_ids), np.float32)
    return torch.from_numpy(np.stack([alike if row.weights is None else row.weights for row in rows]))


def _documents(rows: list[Row]) -> Documents | None:
    """Rows without documents may stand among the others: they are empty."""
    own = [row.documents for row in rows]
    given = [documents for documents in own if documents is not None]
    if not given:
        return None
    count = sum(len(documents.number) for documents in given)
    place = np.full((len(rows), len(rows[0].input_ids)), count, np.int64)
    first = 0
    for row, documents in enumerate(own):
        if documents is not None:
            inside = documents.place < len(documents.number)
            place[row, inside] = first + documents.place[inside]
            first += len(documents.number)
    good = [documents.good for documents in given if documents.good is not None]
    mismatched = [documents.mismatched for documents in given if documents.mismatched is not None]
    return Documents(
        place=torch.from_numpy(place), number=torch.from_numpy(np.concatenate([documents.number for documents in given])),
        units=sum(documents.units for documents in given), good=torch.from_numpy(np.concatenate(good)) if good else None,
        mismatched=collate(mismatched) if mismatched else None,
    )  # fmt: skip
