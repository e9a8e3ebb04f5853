"""Held-out loss: every scored position of every batch, as bits per UTF-8 byte of the text that it covers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from beichen.data.batch import Batch
from beichen.nn.cross_entropy import position_losses
from beichen.nn.decoder import Decoder
from beichen.util.progress import SILENT, Reporter


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Sums over the scored positions; comparable between tokenizers through ``bits_per_byte``."""

    nats: float
    targets: int
    num_bytes: int | None  # of the text that the targets cover; None: not text as it was read, but rendered dialogues

    @property
    def loss(self) -> float:
        """Mean nats per target."""
        return self.nats / max(self.targets, 1)

    @property
    def bits_per_byte(self) -> float | None:
        return None if self.num_bytes is None else self.nats / math.log(2) / max(self.num_bytes, 1)

    def as_dict(self) -> dict[str, float | int | None]:
        return {"loss": self.loss, "bits_per_byte": self.bits_per_byte, "targets": self.targets}

    def as_text(self) -> str:
        """For people."""
        bits = self.bits_per_byte
        return f"loss {self.loss:.4f}" if bits is None else f"{bits:.4f} bits per byte"

    def __add__(self, other: HeldOut) -> HeldOut:
        return HeldOut(nats=self.nats + other.nats, targets=self.targets + other.targets, num_bytes=_sum(self.num_bytes, other.num_bytes))


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


@torch.no_grad()
def evaluate_held_out(
    decoder: Decoder, batches: Iterable[Batch], *, num_bytes: int | None, total_batches: int | None = None, reporter: Reporter = SILENT
) -> HeldOut:  # fmt: skip
    """Score every batch once, in evaluation mode; the decoder's mode is restored."""
    was_training, device = decoder.training, next(decoder.parameters()).device
    decoder.eval()
    nats, targets = 0.0, 0
    with reporter.track("held-out text", total=total_batches, unit="batches") as task:
        for batch in batches:
            placed = batch.to(device)
            hidden = decoder(placed.input_ids, positions=placed.positions, first_visible=placed.first_visible)
            losses = position_losses(
                hidden.flatten(0, 1), decoder.head_weight, placed.targets.flatten(), logit_scale=decoder.config.logit_scale
            )  # fmt: skip
            nats += float(losses.double().sum())
            targets += batch.target_count
            task.advance()
    decoder.train(was_training)
    return HeldOut(nats=nats, targets=targets, num_bytes=num_bytes)
