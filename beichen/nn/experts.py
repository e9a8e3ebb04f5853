"""The mixture-of-experts feed-forward: a router sends each token to a few experts; their outputs are summed by weight.

The experts' matrices are stacked, [experts, out, in], and computed as one grouped product over the choices sorted by expert. An expert
that is always on, if there is one, is an ordinary feed-forward beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from beichen.nn import kernels
from beichen.nn.config import DecoderConfig, ExpertsConfig
from beichen.nn.feed_forward import FeedForward, swiglu
from beichen.nn.grouped import grouped_linear
from beichen.nn.routing import Routing, route
from beichen.nn.spans import Span, Updates, stretches

Product = Callable[[Tensor, Tensor], Tensor]


class StackedLinear(nn.Module):
    """One linear layer for each expert. Weights are left uninitialised, as in ``Linear``."""

    held_as: str | None = None

    def __init__(self, experts: int, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.adapter: nn.Module | None = None
        self.weight = nn.Parameter(torch.empty(experts, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(experts, out_features)) if bias else None

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """Rows sorted by expert, without the bias.  [n, in] -> [n, out]; ends: as for ``grouped_linear``"""
        out = grouped_linear(x, self.weight, ends)
        return out if self.adapter is None else self.adapter(x, out, self, ends)

    @property
    def is_plain(self) -> bool:
        """Whether the product is all that it does."""
        return self.adapter is None

    @property
    def shape(self) -> torch.Size:
        return self.weight.shape

    def full_weight(self) -> Tensor:
        """[experts, out, in], without the adapter."""
        return self.weight


class Experts(nn.Module):
    """The routed experts of one layer."""

    def __init__(self, hidden_size: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.count = config.num_experts
        self.gate_up = StackedLinear(config.num_experts, hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = StackedLinear(config.num_experts, config.intermediate_size, hidden_size, bias=config.down_bias)

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor, spans: Sequence[Span] = ()) -> Tensor:
        """x [..., hidden]; chosen, weights [..., choices].  -> sum over choices of weight x expert(x), [..., hidden]"""
        if any(layer in span.updates for span in spans for layer in (self.gate_up, self.down)):
            flat = [part.flatten(0, -2) for part in (x, chosen, weights)]
            parts = []
            for stretch in stretches(spans, len(flat[0])):
                rows, choices, shares = (part[stretch.begin : stretch.end] for part in flat)
                parts.append(self._mixed(rows, choices, shares, stretch.updates))
            mixed = torch.cat(parts).view(x.shape)
        else:
            mixed = self._mixed(x, chosen, weights, {})
        if self.down.bias is None:
            return mixed
        shares = weights.new_zeros(*weights.shape[:-1], self.count).scatter_add(-1, chosen, weights)
        return mixed + shares.to(mixed.dtype) @ self.down.bias

    def _mixed(self, x: Tensor, chosen: Tensor, weights: Tensor, updates: Updates) -> Tensor:
        """All of them with one adapter or none, without the bias."""
        gate_up, down = self.gate_up, self.down
        plain = gate_up.is_plain and down.is_plain and not updates
        if plain and kernels.can_run_experts(x, gate_up.weight, down.weight):
            return kernels.experts(x, gate_up.weight, down.weight, chosen, weights)

        def product(layer: StackedLinear) -> Product:
            update = updates.get(layer)
            return layer if update is None else lambda rows, ends: update(rows, layer(rows, ends), layer, ends)

        flat = [part.flatten(0, -2) for part in (x, chosen, weights)]
        return mix_by(flat[0], product(gate_up), product(down), *flat[1:], experts=self.count).view(x.shape)


def mix(x: Tensor, gate_up: Tensor, down: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """The same in torch's operations, without the bias; gate_up, down: the stacked matrices."""

    def product(weight: Tensor) -> Product:
        return lambda rows, ends: grouped_linear(rows, weight, ends)

    return mix_by(x, product(gate_up), product(down), chosen, weights, experts=len(down))


def mix_by(x: Tensor, gate_up: Product, down: Product, chosen: Tensor, weights: Tensor, *, experts: int) -> Tensor:
    """The same by two products, of whatever kind: (rows sorted by expert, where each expert's end) -> rows."""
    tokens, choices = chosen.shape
    flat = chosen.flatten()
    order = flat.argsort(stable=True)  # choice t * choices + c, by expert
    ends = torch.bincount(flat, minlength=experts).cumsum(0).int()
    inner = swiglu(gate_up(x.index_select(0, order // choices), ends))
    sorted_out = down(inner, ends)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    out = sorted_out.index_select(0, place).view(tokens, choices, -1)
    return torch.bmm(weights[:, None].to(out.dtype), out)[:, 0]


class Mixture(nn.Module):
    """Router, routed experts, and the always-on one."""

    def __init__(self, config: DecoderConfig, experts: ExpertsConfig) -> None:
        super().__init__()
        self.config = experts
        self.router = nn.Module()
        self.router.weight = nn.Parameter(torch.empty(experts.num_experts, config.hidden_size))
        self.router.register_buffer("bias", torch.zeros(experts.num_experts) if experts.selection_bias else None)
        self.capacity_factor = experts.capacity_factor  # in training
        self.experts = Experts(config.hidden_size, experts)
        shared = experts.shared_intermediate_size
        self.shared = FeedForward(config, intermediate_size=shared) if shared else None

    def forward(self, x: Tensor, routings: list[Routing] | None = None, spans: Sequence[Span] = ()) -> Tensor:
        """[rows, tokens, hidden] -> the same; ``routings`` receives what was decided. Capacity limits training alone."""
        router, bias = self.router.weight, self.router.bias
        assert isinstance(router, Tensor) and (bias is None or isinstance(bias, Tensor))
        routing = route(x, router, self.config, bias=bias, capacity_factor=self.capacity_factor if self.training else None)
        if routings is not None:
            routings.append(routing)
        mixed = self.experts(x, routing.chosen, routing.effective_weights, spans)
        if self.shared is not None:
            mixed = mixed + self.shared(x, None, spans)
        return mixed.to(torch.bfloat16).to(x.dtype) if self.config.output_rounding == "bfloat16" else mixed
