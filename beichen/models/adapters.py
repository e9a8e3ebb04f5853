"""The low-rank adapters of a decoder under published names: put on, read and set as the matrices that other tools know.

A published layer is a range of rows of one of ours (``linear_names``), so an adapter of ours covers that range; B is kept in the order
of our rows and permuted on its way in and out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from beichen.errors import SettingsError
from beichen.models.linear_names import Place, linear_layers, places
from beichen.models.naming import NameTable
from beichen.nn.decoder import Decoder
from beichen.nn.linear_layer import LinearLayer
from beichen.nn.low_rank import LowRank, Part
from beichen.util.random import keyed_torch_generator


@dataclass(frozen=True, kw_only=True)
class AdapterShape:
    """What is alike in all adapters of a model, and each one's rank by its published name (without ``.weight``)."""

    alpha: float
    ranks: Mapping[str, int]
    rslora: bool = False
    dora: bool = False
    alphas: Mapping[str, float] = field(default_factory=dict)  # of those that have one of their own

    def scale(self, name: str) -> float:
        """What the product of an adapter's two matrices is multiplied by."""
        rank = self.ranks[name]
        return self.alphas.get(name, self.alpha) / (math.sqrt(rank) if self.rslora else rank)


def attach(decoder: Decoder, names: NameTable, shape: AdapterShape, *, seed: int, dropout: float = 0.0) -> None:
    """Put new adapters on their layers and freeze everything else; what the decoder computes does not change yet.

    A is drawn by (seed, published name) uniformly within 1 / sqrt(in), as PEFT does.
    """
    decoder.requires_grad_(False)
    known, layers = places(names, decoder), linear_layers(decoder)
    for layer, adapter in _new(decoder, known, shape, dropout=dropout).items():
        module = layers[layer]
        width = module.shape[-1]
        bound = 1.0 / math.sqrt(width)
        for number, group in enumerate(_by_layer(shape, known)[layer].values()):
            for name in group:
                values = torch.empty(shape.ranks[name], width)
                values.uniform_(-bound, bound, generator=keyed_torch_generator(seed, f"adapter {name}", 0))
                _of_expert(adapter.a.detach(), known[name].expert)[adapter.columns_of(number)] = values.to(adapter.a)
        adapter.begin_at(module.full_weight().detach())
        module.adapter = adapter.train(decoder.training)


@dataclass(frozen=True)
class Matrices:
    """One adapter as published: A [rank, in], B [out, rank], and with DoRA the magnitudes [out]; copies."""

    a: Tensor
    b: Tensor
    magnitudes: Tensor | None


def published(decoder: Decoder, names: NameTable) -> dict[str, Matrices]:
    """Every adapter of a decoder by the published name of its layer."""
    found: dict[str, Matrices] = {}
    layers = linear_layers(decoder)
    for name, place in places(names, decoder).items():
        located = _locate(layers[place.layer].adapter, place)
        if located is not None:
            a, b, magnitudes, order = located
            found[name] = Matrices(a.clone(), b[order], None if magnitudes is None else magnitudes[order])
    return found


@torch.no_grad()
def fill(decoder: Decoder, names: NameTable, matrices: Mapping[str, Matrices]) -> None:
    """Set attached adapters to these values."""
    _fill({name: module.adapter for name, module in linear_layers(decoder).items()}, places(names, decoder), matrices)


def made_apart(
    decoder: Decoder, names: NameTable, shape: AdapterShape, matrices: Mapping[str, Matrices]
) -> dict[LinearLayer, LowRank]:  # fmt: skip
    """An adapter for a decoder that does not carry it, and stays as it is: the update of each layer that it moves, ready for use."""
    known, layers = places(names, decoder), linear_layers(decoder)
    adapters = _new(decoder, known, shape)
    _fill(adapters, known, matrices)
    for layer, adapter in adapters.items():
        adapter.requires_grad_(False).eval().settle(layers[layer])
    return {layers[layer]: adapter for layer, adapter in adapters.items()}


def _new(decoder: Decoder, known: Mapping[str, Place], shape: AdapterShape, *, dropout: float = 0.0) -> dict[str, LowRank]:
    """Adapters by our layer, A not yet set."""
    layers, found = linear_layers(decoder), {}
    for layer, members in _by_layer(shape, known).items():
        rows = layers[layer].shape
        parts = [Part(*span, rank=shape.ranks[group[0]], scale=shape.scale(group[0])) for span, group in members.items()]
        found[layer] = LowRank(
            rows[-1], rows[-2], parts, experts=rows[0] if len(rows) == 3 else None, dropout=dropout, magnitudes=shape.dora,
            dtype=decoder.dtype, device=decoder.device,
        )  # fmt: skip
    return found


def _fill(adapters: Mapping[str, nn.Module | None], known: Mapping[str, Place], matrices: Mapping[str, Matrices]) -> None:
    for name, given in matrices.items():
        located = _locate(adapters[known[name].layer], known[name])
        assert located is not None
        a, b, magnitudes, order = located
        a.copy_(given.a)
        b[order] = given.b.to(b)
        if magnitudes is not None and given.magnitudes is not None:
            magnitudes[order] = given.magnitudes.to(magnitudes)


def detach(decoder: Decoder) -> None:
    """Take all adapters off."""
    for module in linear_layers(decoder).values():
        module.adapter = None


def adapted_layers(decoder: Decoder) -> dict[str, LinearLayer]:
    """Our layers that carry adapters, by name."""
    return {name: module for name, module in linear_layers(decoder).items() if module.adapter is not None}


def _by_layer(shape: AdapterShape, known: Mapping[str, Place]) -> dict[str, dict[tuple[int, int], list[str]]]:
    """The adapters of each of our layers, by the rows that they move; in a stack, those of all experts together."""
    found: dict[str, dict[tuple[int, int], list[str]]] = {}
    experts: dict[tuple[str, tuple[int, int]], int] = {}
    for place in known.values():
        experts[place.layer, place.span] = experts.get((place.layer, place.span), 0) + 1
    for name in shape.ranks:
        place = known[name]
        found.setdefault(place.layer, {}).setdefault(place.span, []).append(name)
    for layer, members in found.items():
        for span, group in members.items():
            forms = {(shape.ranks[name], shape.scale(name)) for name in group}
            if len(group) != experts[layer, span] or len(forms) > 1:
                raise SettingsError(
                    f"lora.patterns: {group[0]} and its like: {len(group)} of {experts[layer, span]} experts of the layer are named, "
                    f"with {len(forms)} ranks or scales",
                    remedy="the experts of a layer are adapted together, with one rank: end the pattern behind the expert's number",
                )
    return {layer: dict(sorted(members.items())) for layer, members in found.items()}


def _of_expert(tensor: Tensor, expert: int | None) -> Tensor:
    return tensor if expert is None else tensor[expert]


def _locate(adapter: nn.Module | None, place: Place) -> tuple[Tensor, Tensor, Tensor | None, Tensor] | None:
    """Views of A, B and magnitudes of one published layer, and the place of each published row in B; None without an adapter."""
    if not isinstance(adapter, LowRank):
        return None
    begin, end = place.span
    number = next((number for number, part in enumerate(adapter.parts) if (part.begin, part.end) == (begin, end)), None)
    if number is None:
        return None
    magnitudes = None
    if adapter.magnitudes is not None:
        magnitudes = _of_expert(adapter.magnitudes[number].detach().view(-1, end - begin), place.expert or 0)
    a = _of_expert(adapter.a.detach(), place.expert)[adapter.columns_of(number)]
    return a, _of_expert(adapter.b[number].detach(), place.expert), magnitudes, (place.rows - begin).to(a.device)
