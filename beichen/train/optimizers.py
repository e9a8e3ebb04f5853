"""AdamW and Muon over float32 master weights.

The decoder may compute in bf16: every parameter has a float32 master here, which is updated and then rounded into the
parameter. Gradients are read once, scaled by one factor (clipping and the division by the target count together).
Groups are made by what a parameter is: vectors, embedding, head, or a matrix of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from beichen.errors import CheckpointError
from beichen.nn import kernels
from beichen.nn.decoder import Decoder
from beichen.train.orthogonal import orthogonalize
from beichen.train.settings import OptimizerSettings


@dataclass(kw_only=True)
class _Slot:
    """One parameter, its master, and the moments that its optimizer keeps (all float32, same shape)."""

    name: str
    parameter: Tensor
    master: Tensor
    learning_rate: float
    weight_decay: float
    moments: list[Tensor]
    parts: list[int] = field(default_factory=list)  # Muon: rows of the matrices that are fused in this one

    @property
    def gradient(self) -> Tensor:
        """The summed gradient; only slots that have one are asked."""
        gradient = self.parameter.grad
        assert gradient is not None
        return gradient

    @property
    def rounded(self) -> Tensor | None:
        """The parameter, where it is a copy of the master in another format."""
        return None if self.master.data_ptr() == self.parameter.data_ptr() else self.parameter.detach()

    @torch.no_grad()
    def round(self) -> None:
        """Master into parameter."""
        if self.rounded is not None:
            self.parameter.copy_(self.master)


class Optimizer:
    """State and step for every parameter of one decoder that is trained; learning rates follow one schedule factor.

    ``gradient_norm`` may be asked first, so that a step whose norm is not finite is refused before a weight has moved.
    """

    def __init__(self, decoder: Decoder, settings: OptimizerSettings) -> None:
        self.settings, self.steps = settings, 0
        self._adamw: list[_Slot] = []
        self._muon: list[_Slot] = []
        for name, parameter in decoder.named_parameters():
            if parameter.requires_grad:
                self._add(decoder, name, parameter)

    def _add(self, decoder: Decoder, name: str, parameter: Tensor) -> None:
        settings = self.settings
        is_matrix = parameter.ndim >= 2 and not name.endswith("bias")
        use_muon = settings.name == "muon" and name.startswith("layers.") and is_matrix
        rates = {"embedding.weight": settings.embedding_learning_rate, "head.weight": settings.head_learning_rate}
        rate = settings.matrix_learning_rate if use_muon else settings.learning_rate
        if settings.name == "muon":
            rate = rates.get(name, rate)
        values = parameter.detach()
        slot = _Slot(
            name=name, parameter=parameter, master=values if values.dtype == torch.float32 else values.float(),
            learning_rate=rate, weight_decay=settings.weight_decay if is_matrix else 0.0,
            moments=[torch.zeros(values.shape, dtype=torch.float32, device=values.device) for _ in range(1 if use_muon else 2)],
            parts=_fused_parts(decoder, name, parameter) if use_muon else [],
        )  # fmt: skip
        (self._muon if use_muon else self._adamw).append(slot)

    @torch.no_grad()
    def gradient_norm(self, target_weight: float) -> float:
        """Of the summed gradients divided by ``target_weight``, before clipping; they stay as they are."""
        gradients = [slot.gradient for slot in (*self._adamw, *self._muon) if slot.parameter.grad is not None]
        return math.sqrt(_sum_of_squares(gradients)) / target_weight

    def discard(self) -> None:
        """Forget the gradients: their step is not taken."""
        for slot in (*self._adamw, *self._muon):
            slot.parameter.grad = None

    @torch.no_grad()
    def step(self, rate_factor: float, target_weight: float, norm: float | None = None) -> float:
        """Divide summed gradients by ``target_weight``, clip, update, and clear them.  -> gradient norm before clipping

        norm: what ``gradient_norm`` said of these gradients, if it was asked.
        """
        self.steps += 1
        adamw = [slot for slot in self._adamw if slot.parameter.grad is not None]
        muon = [slot for slot in self._muon if slot.parameter.grad is not None]
        norm = self.gradient_norm(target_weight) if norm is None else norm
        scale = 1.0 / target_weight
        if self.settings.clip_norm and norm > self.settings.clip_norm:
            scale *= self.settings.clip_norm / norm
        for slot in adamw:
            self._adamw_step(slot, slot.learning_rate * rate_factor, scale)
        self._muon_step(muon, rate_factor, scale)
        self.discard()
        return norm

    def _adamw_step(self, slot: _Slot, rate: float, scale: float) -> None:
        settings, gradient = self.settings, slot.gradient
        first, second = slot.moments
        if kernels.can_step(slot.rounded, gradient, slot.master, first, second):
            kernels.adamw_step(
                slot.rounded, gradient, slot.master, first, second, learning_rate=rate, beta1=settings.beta1, beta2=settings.beta2,
                epsilon=settings.epsilon, weight_decay=slot.weight_decay, step=self.steps, gradient_scale=scale,
            )  # fmt: skip
            return
        gradient = gradient.float() * scale
        first.lerp_(gradient, 1.0 - settings.beta1)
        second.lerp_(gradient.square(), 1.0 - settings.beta2)
        correction = math.sqrt(1.0 - settings.beta2**self.steps)
        slot.master.mul_(1.0 - rate * slot.weight_decay)
        slot.master.addcdiv_(first, (second.sqrt() / correction).add_(settings.epsilon), value=-rate / (1.0 - settings.beta1**self.steps))
        slot.round()

    def _muon_step(self, slots: list[_Slot], rate_factor: float, scale: float) -> None:
        """Momentum of every matrix; then all matrices of one shape are orthogonalised together."""
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor, Tensor | None, _Slot]]] = {}
        for slot in slots:
            direction = _look_ahead(slot.gradient, slot.moments[0], self.settings.momentum, scale)
            rounded = [None] * len(slot.parts) if slot.rounded is None else _split(slot.rounded, slot.parts)
            for part, master, copy in zip(_split(direction, slot.parts), _split(slot.master, slot.parts), rounded, strict=True):
                by_shape.setdefault(part.shape, []).append((part, master, copy, slot))
        for shape, matrices in by_shape.items():
            updates = orthogonalize(torch.stack([part for part, _, _, _ in matrices])).contiguous()
            for update, (_, master, copy, slot) in zip(updates, matrices, strict=True):
                rate = slot.learning_rate * rate_factor
                _apply(update, master, copy, rate=rate * math.sqrt(max(1.0, shape[0] / shape[1])), decay=rate * slot.weight_decay)

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name, for the training state on disk."""
        tensors: dict[str, Tensor] = {}
        for slot in (*self._adamw, *self._muon):
            tensors[f"master.{slot.name}"] = slot.master
            tensors |= {f"moment{number}.{slot.name}": moment for number, moment in enumerate(slot.moments)}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Take over what ``state`` gave. Raises CheckpointError when a tensor is missing or of another shape."""
        self.steps = steps
        for name, target in self.state().items():
            if name not in tensors or tensors[name].shape != target.shape:
                found = "missing" if name not in tensors else f"of shape {tuple(tensors[name].shape)}"
                raise CheckpointError(
                    f"training state: {name} is {found}, expected {tuple(target.shape)}",
                    remedy="the recipe's model or optimizer differs from the run that is resumed; give another output folder",
                )
            target.copy_(tensors[name])
        for slot in (*self._adamw, *self._muon):
            slot.round()


def _sum_of_squares(gradients: list[Tensor]) -> float:
    if all(kernels.can_step(gradient) for gradient in gradients):
        return kernels.sum_of_squares(gradients)
    return sum(float(torch.linalg.vector_norm(gradient, dtype=torch.float32)) ** 2 for gradient in gradients)


def _look_ahead(gradient: Tensor, momentum: Tensor, factor: float, scale: float) -> Tensor:
    """Update the momentum in place.  -> Nesterov's direction in bf16, like the gradient"""
    if kernels.can_step(gradient, momentum):
        direction = torch.empty(gradient.shape, dtype=torch.bfloat16)
        kernels.muon_direction(gradient, momentum, direction, factor=factor, gradient_scale=scale)
        return direction
    wide = gradient.float() * scale
    momentum.lerp_(wide, 1.0 - factor)
    return wide.lerp_(momentum, factor).bfloat16()


def _apply(update: Tensor, master: Tensor, rounded: Tensor | None, *, rate: float, decay: float) -> None:
    """master <- (1 - decay) master - rate update, and its rounded copy."""
    if kernels.can_step(update, master, rounded):
        kernels.muon_apply(rounded, update, master, rate=rate, decay=decay)
        return
    master.mul_(1.0 - decay).add_(update.float(), alpha=-rate)
    if rounded is not None:
        rounded.copy_(master)


def _fused_parts(decoder: Decoder, name: str, parameter: Tensor) -> list[int]:
    """Rows of the matrices that one parameter holds, fused or stacked by expert: Muon orthogonalises each of them alone."""
    config, rows = decoder.config, parameter.shape[-2]
    parts = [rows]
    if name.endswith("attention.qkv.weight"):
        parts = [config.query_size, config.key_value_size, config.key_value_size]
    elif name.endswith("gate_up.weight"):
        parts = [rows // 2] * 2
    return parts * parameter.shape[:-2].numel()


def _split(tensor: Tensor, parts: list[int]) -> tuple[Tensor, ...]:
    """Views of the matrices in a contiguous [..., rows, columns]."""
    return tensor.view(-1, tensor.shape[-1]).split(parts)
