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


class Optimizer:
    """State and step for every parameter of one decoder; learning rates follow one schedule factor."""

    def __init__(self, decoder: Decoder, settings: OptimizerSettings) -> None:
        self.settings, self.steps = settings, 0
        self._adamw: list[_Slot] = []
        self._muon: list[_Slot] = []
        for name, parameter in decoder.named_parameters():
            self._add(decoder, name, parameter)

    def _add(self, decoder: Decoder, name: str, parameter: Tensor) -> None:
        settings = self.settings
        is_matrix = parameter.ndim == 2
        use_muon = settings.name == "muon" and name.startswith("layers.") and is_matrix
        rates = {"embedding.weight": settings.embedding_learning_rate, "head.weight": settings.head_learning_rate}
        rate = settings.matrix_learning_rate if use_muon else settings.learning_rate
        if settings.name == "muon":
            rate = rates.get(name, rate)
        values = parameter.detach()
        slot = _Slot(
            name=name, parameter=values, master=values if values.dtype == torch.float32 else values.float(),
            learning_rate=rate, weight_decay=settings.weight_decay if is_matrix else 0.0,
            moments=[torch.zeros(values.shape, dtype=torch.float32, device=values.device) for _ in range(1 if use_muon else 2)],
            parts=_fused_parts(decoder, name, parameter) if use_muon else [],
        )  # fmt: skip
        slot.parameter = parameter
        (self._muon if use_muon else self._adamw).append(slot)

    @torch.no_grad()
    def step(self, rate_factor: float, target_count: int) -> float:
        """Divide summed gradients by ``target_count``, clip, update, and clear them.  -> gradient norm before clipping"""
        self.steps += 1
        gradients = [slot.parameter.grad for slot in (*self._adamw, *self._muon) if slot.parameter.grad is not None]
        norm = math.sqrt(sum(float(torch.linalg.vector_norm(gradient, dtype=torch.float32)) ** 2 for gradient in gradients)) / target_count
        scale = 1.0 / target_count
        if self.settings.clip_norm and norm > self.settings.clip_norm:
            scale *= self.settings.clip_norm / norm
        for slot in self._adamw:
            self._adamw_step(slot, rate_factor, scale)
        self._muon_step(rate_factor, scale)
        for slot in (*self._adamw, *self._muon):
            slot.parameter.grad = None
        return norm

    def _adamw_step(self, slot: _Slot, rate_factor: float, scale: float) -> None:
        gradient = slot.parameter.grad
        if gradient is None:
            return
        settings, rate = self.settings, slot.learning_rate * rate_factor
        gradient = gradient.float() * scale
        first, second = slot.moments
        first.lerp_(gradient, 1.0 - settings.beta1)
        second.mul_(settings.beta2).addcmul_(gradient, gradient, value=1.0 - settings.beta2)
        correction = math.sqrt(1.0 - settings.beta2**self.steps)
        slot.master.mul_(1.0 - rate * slot.weight_decay)
        slot.master.addcdiv_(
            first, (second.sqrt() / correction).add_(settings.epsilon), value=-rate / (1.0 - settings.beta1**self.steps)
        )
        _round_into(slot)

    def _muon_step(self, rate_factor: float, scale: float) -> None:
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor, _Slot]]] = {}
        for slot in self._muon:
            gradient = slot.parameter.grad
            if gradient is None:
                continue
            (momentum,) = slot.moments
            gradient = gradient.float() * scale
            momentum.lerp_(gradient, 1.0 - self.settings.momentum)
            direction = gradient.lerp_(momentum, self.settings.momentum)
            slot.master.mul_(1.0 - slot.learning_rate * rate_factor * slot.weight_decay)
            for part, target in zip(direction.split(slot.parts), slot.master.split(slot.parts), strict=True):
                by_shape.setdefault((part.shape[0], part.shape[1]), []).append((part, target, slot))
        for (rows, columns), parts in by_shape.items():
            stacked = torch.stack([part.bfloat16() for part, _, _ in parts])
            updates = orthogonalize(stacked)
            shape_factor = math.sqrt(max(1.0, rows / columns))
            for update, (_, target, slot) in zip(updates, parts, strict=True):
                target.add_(update.float(), alpha=-slot.learning_rate * rate_factor * shape_factor)
        for slot in self._muon:
            _round_into(slot)

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
            _round_into(slot)


@torch.no_grad()
def _round_into(slot: _Slot) -> None:
    if slot.parameter.dtype != torch.float32:
        slot.parameter.copy_(slot.master)


def _fused_parts(decoder: Decoder, name: str, parameter: Tensor) -> list[int]:
    """Rows of the matrices that one parameter holds: Muon orthogonalises each of them alone."""
    config = decoder.config
    if name.endswith("attention.qkv.weight"):
        return [config.query_size, config.key_value_size, config.key_value_size]
    if name.endswith("gate_up.weight"):
        return [parameter.shape[0] // 2] * 2
    return [parameter.shape[0]]


