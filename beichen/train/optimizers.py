"""AdamW and Muon over float32 master weights, or over bf16 weights that are rounded at random.

The decoder may compute in bf16: every parameter then has a float32 master here, which is updated and rounded into the parameter.
Gradients are read once, scaled by one factor (clipping and the division by the target count together). On request a moving average
of the weights is kept as well.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from beichen.errors import CheckpointError
from beichen.nn import kernels
from beichen.nn.decoder import Decoder
from beichen.train.adamw import adamw_step
from beichen.train.muon import muon_step
from beichen.train.optimizer_settings import OptimizerSettings
from beichen.train.precision import LossScale
from beichen.train.slots import Slot, slots_of


class Optimizer:
    """State and step for every parameter of one decoder that is trained; learning rates follow one schedule factor.

    ``gradient_norm`` may be asked first, so that a step whose norm is not finite is refused before a weight has moved.
    """

    def __init__(self, decoder: Decoder, settings: OptimizerSettings, *, seed: int = 0) -> None:
        self.settings, self.seed, self.steps = settings, seed, 0
        self.slots = slots_of(decoder, settings)
        self._loss_scale = LossScale() if any(slot.parameter.dtype == torch.float16 for slot in self.slots) else None
        decay = settings.average_decay
        self._average = {} if decay is None else {slot.name: slot.master.float().clone() for slot in self.slots}

    @property
    def loss_scale(self) -> float:
        """What losses are to be multiplied by before their gradients are taken; 1 but for float16."""
        return 1.0 if self._loss_scale is None else self._loss_scale.factor

    @torch.no_grad()
    def gradient_norm(self, target_weight: float) -> float:
        """Of the summed gradients divided by ``target_weight``, before clipping; they stay as they are."""
        return math.sqrt(_sum_of_squares([slot.gradient for slot in self._with_gradient()])) / (target_weight * self.loss_scale)

    def lower_loss_scale(self) -> bool:
        """After gradients that are not finite.  -> whether the scale may have been why, so that the next step can go well"""
        return self._loss_scale is not None and self._loss_scale.lower()

    def discard(self) -> None:
        """Forget the gradients: their step is not taken."""
        for slot in self.slots:
            slot.parameter.grad = None

    @torch.no_grad()
    def step(self, rate_factor: float, target_weight: float, norm: float | None = None) -> float:
        """Divide summed gradients by ``target_weight``, clip, update, and clear them.  -> gradient norm before clipping

        norm: what ``gradient_norm`` said of these gradients, if it was asked.
        """
        self.steps += 1
        norm = self.gradient_norm(target_weight) if norm is None else norm
        scale = 1.0 / (target_weight * self.loss_scale)
        if self.settings.clip_norm and norm > self.settings.clip_norm:
            scale *= self.settings.clip_norm / norm
        moving = self._with_gradient()
        for slot in moving:
            if not slot.parts:
                adamw_step(slot, self.settings, rate=slot.learning_rate * rate_factor, scale=scale, step=self.steps, seed=self.seed)
        muon_step(
            [slot for slot in moving if slot.parts], momentum=self.settings.momentum, rate_factor=rate_factor, scale=scale,
            step=self.steps, seed=self.seed,
        )  # fmt: skip
        self.discard()
        self._follow()
        if self._loss_scale is not None:
            self._loss_scale.grow()
        return norm

    def _with_gradient(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.parameter.grad is not None]

    def _follow(self) -> None:
        """The average moves towards the weights; faster in the first steps, lest it stay near where they began."""
        if self.settings.average_decay is not None:
            share = 1.0 - min(self.settings.average_decay, (self.steps + 1) / (self.steps + 10))
            for slot in self.slots:
                self._average[slot.name].lerp_(slot.master.float(), share)

    @contextlib.contextmanager
    def result(self) -> Iterator[None]:
        """Inside, the decoder holds what the settings call the run's result: the weights as they are, or their average."""
        if self.settings.result == "weights":
            yield
            return
        own = [slot.parameter.detach().clone() for slot in self.slots]
        with torch.no_grad():
            for slot in self.slots:
                slot.parameter.copy_(self._average[slot.name])
        try:
            yield
        finally:
            with torch.no_grad():
                for slot, values in zip(self.slots, own, strict=True):
                    slot.parameter.copy_(values)

    def state(self) -> dict[str, Tensor]:
        """Masters, moments and averages by name, for the training state on disk."""
        tensors: dict[str, Tensor] = {}
        for slot in self.slots:
            tensors[f"master.{slot.name}"] = slot.master
            tensors |= {f"moment{number}.{slot.name}": moment for number, moment in enumerate(slot.moments)}
        if self._loss_scale is not None:
            tensors["loss_scale"] = self._loss_scale.state
        return tensors | {f"average.{name}": average for name, average in self._average.items()}

    def load_state(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Take over what ``state`` gave. steps: taken so far. Raises CheckpointError when a tensor is missing or of another shape."""
        self.steps = steps
        for name, target in self.state().items():
            if name not in tensors or tensors[name].shape != target.shape:
                found = "missing" if name not in tensors else f"of shape {tuple(tensors[name].shape)}"
                raise CheckpointError(
                    f"training state: {name} is {found}, expected {tuple(target.shape)}",
                    remedy="the recipe's model or optimizer differs from the run that is resumed; give another output folder",
                )
            target.copy_(tensors[name])
        for slot in self.slots:
            slot.round()


def _sum_of_squares(gradients: list[Tensor]) -> float:
    if all(kernels.can_step(gradient) for gradient in gradients):
        return kernels.sum_of_squares(gradients)
    return sum(float(torch.linalg.vector_norm(gradient, dtype=torch.float32)) ** 2 for gradient in gradients)
