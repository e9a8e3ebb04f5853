"""One table per family: published tensor names and layouts <-> the decoder's parameters.

A row says: this parameter of ours holds these published tensors, and ``views`` cuts our tensor into strided
views, one per published tensor, in order. Reading copies a published tensor into its view; writing copies the
view out; the expected shapes come from the views of a decoder on the meta device. So both directions, the
check of names and shapes, and the gradients under published names follow from one table and one function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from beichen.errors import ConfigError
from beichen.nn.config import DecoderConfig

Views = Callable[[Tensor, DecoderConfig], tuple[Tensor, ...]]

_LAYER = re.compile(r"^layers\.(\d+)\.")


def whole(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
    """The published tensor is ours."""
    return (ours,)


def transposed(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
    """The published tensor is ours, stored [in, out]."""
    return (ours.mT,)


def query_key_value(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
    """Three published tensors: queries, keys, values."""
    query, key, value = torch.split(ours, [config.query_size, config.key_value_size, config.key_value_size])
    return query, key, value


def query_and_interleaved_key_value(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
    """Queries, and one tensor with the key rows then the value rows of head 0, those of head 1, and so on."""
    query, key_value = torch.split(ours, [config.query_size, 2 * config.key_value_size])
    heads = (2, config.num_key_value_heads, config.head_dim)
    return query, key_value.unflatten(0, heads).transpose(0, 1)


def gate_and_up(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
    """Two published tensors: gate, up."""
    gate, up = torch.split(ours, ours.shape[0] // 2)
    return gate, up


@dataclass(frozen=True)
class Row:
    """One parameter of ours (``{i}`` stands for the layer) and the published tensors that it holds.

    ``{e}`` in their names stands for the expert: ours is then stacked, and ``views`` cuts one expert's part.
    """

    ours: str
    published: tuple[str, ...]
    views: Views = whole
    merged: bool = True  # dimensions that a view has beyond ours are merged into its first

    @property
    def is_stacked(self) -> bool:
        """Whether ours holds every expert's tensors."""
        return "{e}" in self.published[0]


@dataclass(frozen=True)
class PublishedView:
    """One published tensor as a view into one of ours."""

    ours: str
    view: Tensor
    shape: tuple[int, ...]

    def fill(self, published: Tensor) -> None:
        """Copy a published tensor (any device, any number format) into our storage."""
        self.view.copy_(published.view(self.view.shape))

    def tensor(self) -> Tensor:
        """The tensor as published (a copy wherever ours is laid out otherwise)."""
        return self.view.reshape(self.shape).contiguous()


@dataclass(frozen=True, kw_only=True)
class NameTable:
    """All rows of a family, with what else its files may hold."""

    rows: tuple[Row, ...]
    optional_prefix: str = ""  # some files of the family omit it on every name that has it
    ignorable: tuple[str, ...] = ()  # patterns of tensors that carry no weights (masks, rope tables)
    constants: Mapping[str, float] = field(default_factory=dict)  # ignorable scalars that published files hold, written as they are there
    head: str = "lm_head.weight"
    embedding: str = ""  # when the head is tied, a file may still hold ``head`` as a copy of this

    def views(self, ours: Mapping[str, Tensor], config: DecoderConfig, *, bare: bool = False) -> dict[str, PublishedView]:
        """Cut our tensors (weights, gradients, or meta tensors) into published ones, in the order of the layers."""
        by_template = {row.ours: row for row in self.rows}
        found: dict[str, PublishedView] = {}
        for name, tensor in ours.items():
            layer = _LAYER.match(name)
            row = by_template.get(_LAYER.sub("layers.{i}.", name))
            if row is None:
                raise ConfigError(f"this family has no published name for the decoder's '{name}'")
            parts = tensor.unbind(0) if row.is_stacked else (tensor,)
            for expert, part in enumerate(parts):
                for template, view in zip(row.published, row.views(part, config), strict=True):
                    published = template.replace("{i}", layer.group(1)) if layer else template
                    published = published.replace("{e}", str(expert))
                    if bare:
                        published = published.removeprefix(self.optional_prefix)
                    flat = view.ndim - part.ndim + 1 if row.merged else 1
                    shape = (view.shape[:flat].numel(), *view.shape[flat:])
                    found[published] = PublishedView(ours=name, view=view, shape=shape)
        return found

    def constant_scalars(self, config: DecoderConfig) -> dict[str, float]:
        """The scalars without weights that a published checkpoint holds, for every layer."""
        layers = range(config.num_hidden_layers)
        return {name.replace("{i}", str(layer)): value for layer in layers for name, value in self.constants.items()}

    def omits_prefix(self, names: Iterable[str]) -> bool:
        """Whether files with these tensor names leave out the optional prefix."""
        return bool(self.optional_prefix) and not any(name.startswith(self.optional_prefix) for name in names)

    def is_ignorable(self, name: str) -> bool:
        """Whether a tensor of this name carries no weights."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignorable)
