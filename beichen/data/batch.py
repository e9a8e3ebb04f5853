"""``Row`` and ``Batch``: what packing lays out, the model reads and the objectives score.

Legend of shapes: [rows, tokens]. Every query sees one interval of columns, ``first_visible[r, t] .. t``: that one
array says causal, packed (documents isolated) and left-padded alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

IGNORED = -100  # target of a position that is not scored


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of ``tokens`` positions; targets are already shifted: ``targets[t]`` follows ``input_ids[t]``."""

    input_ids: np.ndarray  # [tokens] int32
    targets: np.ndarray  # [tokens] int32, IGNORED where nothing is scored
    positions: np.ndarray  # [tokens] int32, 0 at the start of every document
    first_visible: np.ndarray  # [tokens] int32, first column of the document that this position belongs to
    token_count: int  # positions that hold a token; the rest, at the end, is padding
    weights: np.ndarray | None = None  # [tokens] float32: what each target counts in the loss; None: all alike


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

    @property
    def target_weight(self) -> float:
        """The sum of what the targets count: the loss of a step is divided by it, so that weights say shares, not sizes."""
        return float(self.target_count) if self.weights is None else float(self.weights[self.targets != IGNORED].double().sum())

    def to(self, device: torch.device) -> Batch:
        move = {name: getattr(self, name).to(device, non_blocking=True) for name in ("input_ids", "targets", "positions", "first_visible")}
        weights = None if self.weights is None else self.weights.to(device, non_blocking=True)
        return Batch(**move, target_count=self.target_count, token_count=self.token_count, weights=weights)


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
    )


def _weights(rows: list[Row]) -> torch.Tensor | None:
    if all(row.weights is None for row in rows):
        return None
    alike = np.ones(len(rows[0].input_ids), np.float32)
    return torch.from_numpy(np.stack([alike if row.weights is None else row.weights for row in rows]))
