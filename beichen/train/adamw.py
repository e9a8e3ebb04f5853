"""AdamW (Loshchilov & Hutter, 2019) on one slot: decoupled decay, bias-corrected moments, one factor on the gradient as it is read."""

from __future__ import annotations

import math

from torch import Tensor

from beichen.nn import kernels
from beichen.nn.stochastic_rounding import round_stochastically
from beichen.train.optimizer_settings import OptimizerSettings
from beichen.train.slots import Slot
from beichen.util.random import keyed_seed

CHUNK = 1 << 18  # elements that are float32 at once where nothing is kept in float32


def adamw_step(slot: Slot, settings: OptimizerSettings, *, rate: float, scale: float, step: int, seed: int) -> None:
    """step: counted from 1; seed: of the run, for rounding at random where the slot has no float32 master."""
    if slot.is_exact:
        first, second = slot.moments
        _move(slot.gradient, slot.master, first, second, slot.rounded, settings, rate, slot.weight_decay, scale, step)
        return
    kept = (slot.master, *slot.moments)
    keys = [keyed_seed(seed, f"rounding {slot.name} {number}", step) for number in range(len(kept))]
    gradient, flat = slot.gradient.flatten(), [tensor.view(-1) for tensor in kept]
    for begin in range(0, len(gradient), CHUNK):
        parts = [tensor[begin : begin + CHUNK] for tensor in flat]
        master, first, second = (part.float() for part in parts)
        _move(gradient[begin : begin + CHUNK], master, first, second, None, settings, rate, slot.weight_decay, scale, step)
        for wide, part, key in zip((master, first, second), parts, keys, strict=True):
            round_stochastically(wide, part, key=key, first=begin)


def _move(
    gradient: Tensor, master: Tensor, first: Tensor, second: Tensor, rounded: Tensor | None, settings: OptimizerSettings,
    rate: float, decay: float, scale: float, step: int,
) -> None:  # fmt: skip
    """One step of float32 tensors, and of the rounded copy of the master if there is one."""
    if kernels.can_step(rounded, gradient, master, first, second):
        kernels.adamw_step(
            rounded, gradient, master, first, second, learning_rate=rate, beta1=settings.beta1, beta2=settings.beta2,
            epsilon=settings.epsilon, weight_decay=decay, step=step, gradient_scale=scale,
        )  # fmt: skip
        return
    gradient = gradient.float() * scale
    first.lerp_(gradient, 1.0 - settings.beta1)
    second.lerp_(gradient.square(), 1.0 - settings.beta2)
    correction = math.sqrt(1.0 - settings.beta2**step)
    master.mul_(1.0 - rate * decay)
    master.addcdiv_(first, (second.sqrt() / correction).add_(settings.epsilon), value=-rate / (1.0 - settings.beta1**step))
    if rounded is not None:
        rounded.copy_(master)
