"""The mixture-of-experts feed-forward: a router sends each token to a few experts; their outputs are summed by weight.

The experts' matrices are stacked, [experts, out, in], and computed as one grouped product over the choices sorted by expert. An expert
that is always on, if there is one, is an ordinary feed-forward beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from beichen.nn import kernels
from beichen.nn.config import DecoderConfig, ExpertsConfig
from beichen.nn.feed_forward import FeedForward, swiglu
from beichen.nn.grouped import grouped_linear
from beichen.nn.routing import Routing, route


class StackedLinear(nn.Module):
    """One linear layer for each expert. Weights are left uninitialised, as in ``Linear``."""

    def __init__(self, experts: int, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(experts, out_features)) if bias else None


class Experts(nn.Module):
    """The routed experts of one layer."""

    def __init__(self, hidden_size: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.gate_up = StackedLinear(config.num_experts, hidden_size, 2 * config.intermediate_size, bias=False)
        self.down = StackedLinear(config.num_experts, config.intermediate_size, hidden_size, bias=config.down_bias)

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """x [tokens, hidden]; chosen, weights [tokens, choices].  -> sum over choices of weight x expert(x), [tokens, hidden]"""
        gate_up, down = self.gate_up.weight, self.down.weight
        if kernels.can_run_experts(x, gate_up, down):
            mixed = kernels.experts(x, gate_up, down, chosen, weights)
        else:
            mixed = mix(x, gate_up, down, chosen, weights)
        if self.down.bias is None:
            return mixed
        shares = weights.new_zeros(len(weights), len(down)).scatter_add(1, chosen, weights)
        return mixed + shares.to(mixed.dtype) @ self.down.bias


def mix(x: Tensor, gate_up: Tensor, down: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """The same in torch's operations, without the bias; gate_up, down: the stacked matrices."""
    tokens, choices = chosen.shape
    flat = chosen.flatten()
    order = flat.argsort(stable=True)  # choice t * choices + c, by expert
    ends = torch.bincount(flat, minlength=len(down)).cumsum(0).int()
    inner = swiglu(grouped_linear(x.index_select(0, order // choices), gate_up, ends))
    sorted_out = grouped_linear(inner, down, ends)
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

    def forward(self, x: Tensor, routings: list[Routing] | None = None) -> Tensor:
        """[rows, tokens, hidden] -> the same; ``routings`` receives what was decided. Capacity limits training alone."""
        router, bias = self.router.weight, self.router.bias
        assert isinstance(router, Tensor) and (bias is None or isinstance(bias, Tensor))
        routing = route(x, router, self.config, bias=bias, capacity_factor=self.capacity_factor if self.training else None)
        if routings is not None:
            routings.append(routing)
        mixed = self.experts(x.flatten(0, 1), routing.chosen.flatten(0, 1), routing.effective_weights.flatten(0, 1)).view(x.shape)
        if self.shared is not None:
            mixed = mixed + self.shared(x)
        return mixed.to(torch.bfloat16).to(x.dtype) if self.config.output_rounding == "bfloat16" else mixed
