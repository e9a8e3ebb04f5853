"""Muon (Jordan et al., 2024) on the matrices of the layers: momentum, whose direction is orthogonalised matrix by matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.stochastic_rounding import round_stochastically
from beichen.train.orthogonal import orthogonalize
from beichen.train.slots import Slot
from beichen.util.random import keyed_seed


def muon_step(slots: Sequence[Slot], *, momentum: float, rate_factor: float, scale: float, step: int, seed: int) -> None:
    """Momentum of every matrix; then all matrices of one shape are orthogonalised together.

    seed: of the run, for rounding at random where a slot has no float32 master.
    """
    by_shape: dict[torch.Size, list[tuple[Tensor, int, Slot]]] = {}
    for slot in slots:
        direction = _direction(slot, momentum, scale, keyed_seed(seed, f"rounding {slot.name} 1", step))
        for number, part in enumerate(split(direction, slot.parts)):
            by_shape.setdefault(part.shape, []).append((part, number, slot))
    for shape, matrices in by_shape.items():
        updates = orthogonalize(torch.stack([part for part, _, _ in matrices])).contiguous()
        for update, (_, number, slot) in zip(updates, matrices, strict=True):
            rate = slot.learning_rate * rate_factor
            key = keyed_seed(seed, f"rounding {slot.name} 0 {number}", step)
            _apply(slot, number, update, rate=rate * math.sqrt(max(1.0, shape[0] / shape[1])), decay=rate * slot.weight_decay, key=key)


def split(tensor: Tensor, parts: list[int]) -> tuple[Tensor, ...]:
    """Views of the matrices in a contiguous [..., rows, columns]."""
    return tensor.view(-1, tensor.shape[-1]).split(parts)


def _direction(slot: Slot, factor: float, scale: float, key: int) -> Tensor:
    """Update the slot's momentum.  -> Nesterov's direction in bf16"""
    kept = slot.moments[0]
    momentum = kept if slot.is_exact else kept.float()
    direction = _look_ahead(slot.gradient, momentum, factor, scale)
    if not slot.is_exact:
        round_stochastically(momentum, kept, key=key)
    return direction


def _look_ahead(gradient: Tensor, momentum: Tensor, factor: float, scale: float) -> Tensor:
    """Update the momentum in place.  -> Nesterov's direction in bf16, like the gradient"""
    if kernels.can_step(gradient, momentum):
        direction = torch.empty(gradient.shape, dtype=torch.bfloat16)
        kernels.muon_direction(gradient, momentum, direction, factor=factor, gradient_scale=scale)
        return direction
    wide = gradient.float() * scale
    momentum.lerp_(wide, 1.0 - factor)
    return wide.lerp_(momentum, factor).bfloat16()


def _apply(slot: Slot, number: int, update: Tensor, *, rate: float, decay: float, key: int) -> None:
    """Matrix ``number`` of the slot <- (1 - decay) matrix - rate update, and its rounded copy."""
    kept = split(slot.master, slot.parts)[number]
    rounded = None if slot.rounded is None else split(slot.rounded, slot.parts)[number]
    master = kept if slot.is_exact else kept.float()
    if kernels.can_step(update, master, rounded):
        kernels.muon_apply(rounded, update, master, rate=rate, decay=decay)
    else:
        master.mul_(1.0 - decay).add_(update.float(), alpha=-rate)
        if rounded is not None:
            rounded.copy_(master)
    if not slot.is_exact:
        round_stochastically(master, kept, key=key)
