"""``Slot``: one trained parameter with what its optimizer keeps of it, and the groups that say how it moves.

In: a decoder and its optimizer's settings. Out: slots. Rule: weight decay never reaches a norm or a bias, whatever a group says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from beichen.errors import SettingsError, nearest
from beichen.nn.decoder import Decoder
from beichen.train.optimizer_settings import GroupSettings, OptimizerSettings


@dataclass(kw_only=True)
class Slot:
    """One parameter, its master, and the moments of its optimizer, of the master's shape and format.

    The master is float32, or the parameter itself: where that is float32, or where there are no masters.
    """

    name: str
    parameter: Tensor
    master: Tensor
    learning_rate: float
    weight_decay: float
    moments: list[Tensor]
    parts: list[int] = field(default_factory=list)  # Muon: rows of the matrices that are fused in this one; AdamW: none

    @property
    def gradient(self) -> Tensor:
        """The summed gradient; only slots that have one are asked."""
        gradient = self.parameter.grad
        assert gradient is not None
        return gradient

    @property
    def is_exact(self) -> bool:
        """Whether the master is float32, so that nothing is rounded at random."""
        return self.master.dtype == torch.float32

    @property
    def rounded(self) -> Tensor | None:
        """The parameter, where it is a copy of the master in another format."""
        return None if self.master.dtype == self.parameter.dtype else self.parameter.detach()

    @torch.no_grad()
    def round(self) -> None:
        """Master into parameter."""
        if self.rounded is not None:
            self.parameter.copy_(self.master)


def slots_of(decoder: Decoder, settings: OptimizerSettings) -> list[Slot]:
    """A slot for every parameter that is trained. Raises SettingsError for a group that fits none, and for masters left out in vain."""
    trained = {name: parameter for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    for group in settings.groups:
        if not any(fnmatchcase(name, group.parameters) for name in trained):
            raise SettingsError(
                f"optimizer.groups: '{group.parameters}' fits no trained parameter{nearest(group.parameters, trained)}",
                remedy=f"names are such as {', '.join(list(trained)[:8])}",
            )
    formats = {parameter.dtype for parameter in trained.values()}
    if not settings.master_weights and not formats <= {torch.bfloat16, torch.float32}:
        raise SettingsError("optimizer.master_weights=false: only bfloat16 weights are rounded at random", remedy="keep master weights")
    return [_slot(decoder, name, parameter, settings) for name, parameter in trained.items()]


def _slot(decoder: Decoder, name: str, parameter: Tensor, settings: OptimizerSettings) -> Slot:
    is_matrix = parameter.ndim >= 2 and not name.endswith("bias")
    use_muon = settings.name == "muon" and name.startswith("layers.") and is_matrix
    rates = {"embedding.weight": settings.embedding_learning_rate, "head.weight": settings.head_learning_rate}
    rate = settings.matrix_learning_rate if use_muon else settings.learning_rate
    if settings.name == "muon":
        rate = rates.get(name, rate)
    group = next((group for group in settings.groups if fnmatchcase(name, group.parameters)), GroupSettings(parameters=name))
    decay = settings.weight_decay if group.weight_decay is None else group.weight_decay
    values = parameter.detach()
    master = values.float() if settings.master_weights else values  # of float32: itself
    return Slot(
        name=name, parameter=parameter, master=master, learning_rate=rate if group.learning_rate is None else group.learning_rate,
        weight_decay=decay if is_matrix else 0.0, moments=[torch.zeros_like(master) for _ in range(1 if use_muon else 2)],
        parts=_fused_parts(decoder, name, parameter) if use_muon else [],
    )  # fmt: skip


def _fused_parts(decoder: Decoder, name: str, parameter: Tensor) -> list[int]:
    """Rows of the matrices that one parameter holds, fused or stacked by expert: Muon orthogonalises each of them alone."""
    config, rows = decoder.config, parameter.shape[-2]
    parts = [rows]
    if name.endswith("attention.qkv.weight"):
        parts = [config.query_size, config.key_value_size, config.key_value_size]
    elif name.endswith("gate_up.weight"):
        parts = [rows // 2] * 2
    return parts * parameter.shape[:-2].numel()
