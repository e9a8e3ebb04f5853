"""Which layers of a decoder a published name, or a pattern over published names, means.

A family's published tensors are rows of our fused layers, perhaps in another order. ``NameTable.views``, applied to row numbers in place
of weights, says which; so no table is needed beside the one that loading and saving follow. What other frameworks call a tensor
(``Family.layouts``) may be asked for as well, where it is one of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from beichen.errors import ConfigError, SettingsError
from beichen.models.family import Family
from beichen.models.naming import NameTable
from beichen.nn.decoder import Decoder
from beichen.nn.linear_layer import LinearLayer

ALL_LINEAR = "all-linear"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a published linear layer lies in ours."""

    layer: str  # name of our module
    rows: Tensor  # our row of each of its rows, in its order
    expert: int | None
    transposed: bool  # published as [in, out]

    @property
    def span(self) -> tuple[int, int]:
        """Its rows in ours, as one range."""
        return int(self.rows.min()), int(self.rows.max()) + 1


def places(names: NameTable, decoder: Decoder) -> dict[str, Place]:
    """Every published linear layer of a decoder, by its name without ``.weight``; embedding, head and routers are none."""
    found: dict[str, Place] = {}
    layers = linear_layers(decoder)
    for name, view in names.views(_row_numbers(layers), decoder.config).items():
        layer = view.ours.removesuffix(".weight")
        shape = layers[layer].shape
        count = shape[-2]
        flat = view.tensor().flatten()
        found[name.removesuffix(".weight")] = Place(
            layer=layer, rows=flat % count, expert=int(flat[0]) // count if len(shape) == 3 else None, transposed=view.shape[-1] != 1
        )  # fmt: skip
    return found


def choose(patterns: Iterable[str], family: Family, decoder: Decoder) -> list[str]:
    """The published linear layers that any pattern means, in the decoder's order. A pattern that means none is an error.

    A pattern is ``all-linear``, the end of a name (``q_proj``, ``mlp.down_proj``), or a whole name with ``*``.
    """
    known = places(family.names, decoder)
    others: dict[str, list[str]] | None = None
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in known if _means(pattern, name)}
        if not found:
            others = _other_names(family, decoder) if others is None else others
            found = {ours for name, meant in others.items() if _means(pattern, name) for ours in meant}
        if not found:
            raise _means_nothing(pattern, [*known, *(others or ())], family.name)
        chosen |= found
    return [name for name in known if name in chosen]


def shortest_ends(chosen: Iterable[str], known: Iterable[str]) -> list[str]:
    """The shortest ends of names that mean the chosen layers and no other known one: ``q_proj`` where all of them are chosen."""
    inside, known, ends = set(chosen), list(known), {}
    for name in inside:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            end = ".".join(parts[-length:])
            if end not in ends:
                ends[end] = all(other in inside for other in known if other == end or other.endswith("." + end))
            if ends[end]:
                break
    means = {end for end, fits in ends.items() if fits}
    return sorted(end for end in means if not any("." in end and end.endswith("." + shorter) for shorter in means - {end}))


def linear_layers(decoder: Decoder) -> dict[str, LinearLayer]:
    """Our linear layers by name, fused as they are."""
    return {name: module for name, module in decoder.named_modules() if isinstance(module, LinearLayer)}


def _row_numbers(layers: Mapping[str, LinearLayer]) -> dict[str, Tensor]:
    """In place of each weight [.., out, in] the numbers of its rows [.., out, 1]; a stack's experts count on."""
    numbers = {}
    for name, module in layers.items():
        rows = module.shape[:-1]
        numbers[f"{name}.weight"] = torch.arange(rows.numel()).view(*rows, 1)
    return numbers


def _means(pattern: str, name: str) -> bool:
    if pattern == ALL_LINEAR:
        return True
    return fnmatchcase(name, pattern) if re.search(r"[*?\[]", pattern) else name == pattern or name.endswith("." + pattern)


def _other_names(family: Family, decoder: Decoder) -> dict[str, list[str]]:
    """What other frameworks call our layers, without ``.weight`` -> the published names; only what is one published layer, or one of
    every expert."""
    rows = _row_numbers(linear_layers(decoder))
    own = {
        name: (view.ours, frozenset(view.tensor().flatten().tolist())) for name, view in family.names.views(rows, decoder.config).items()
    }
    experts = {name: place.expert for name, place in places(family.names, decoder).items()}
    found: dict[str, list[str]] = {}
    for table in family.layouts.values():
        templates = {row.ours for row in table.rows}
        held = {name: tensor for name, tensor in rows.items() if re.sub(r"^layers\.\d+\.", "layers.{i}.", name) in templates}
        try:
            views = table.views(held, decoder.config)
        except ConfigError:  # grouped by more ranks than the sizes divide among
            continue
        for name, view in views.items():
            inside = frozenset(view.tensor().flatten().tolist())
            meant = [ours.removesuffix(".weight") for ours, (layer, numbers) in own.items() if layer == view.ours and numbers <= inside]
            if len({experts[one] for one in meant}) == len(meant) and meant:
                found.setdefault(name.removesuffix(".weight"), meant)
    return found


def _means_nothing(pattern: str, known: list[str], family: str) -> SettingsError:
    kinds = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", name) for name in known))
    ends = {kind.rpartition(".")[2]: kind for kind in kinds}
    near = [ends[end] for end in get_close_matches(pattern.rpartition(".")[2], list(ends), n=3, cutoff=0.5)]
    return SettingsError(
        f"lora.patterns: '{pattern}' is no linear layer of this {family} model{'; near: ' + ', '.join(near) if near else ''}",
        remedy=f"its linear layers are {', '.join(kinds)}; or {ALL_LINEAR}",
    )
