"""The SwiGLU feed-forward: gate and up as one fused matrix, rows gate then up."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels
from beichen.nn.config import DecoderConfig
from beichen.nn.linear import Linear
from beichen.nn.routing import Routing


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up.  [..., 2 intermediate] -> [..., intermediate]"""
    if kernels.can_run(gate_up):
        return kernels.swiglu(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class FeedForward(nn.Module):
    """down(silu(gate x) * (up x))."""

    def __init__(self, config: DecoderConfig, *, intermediate_size: int) -> None:
        super().__init__()
        self.gate_up = Linear(config.hidden_size, 2 * intermediate_size, bias=config.gate_up_bias)
        self.down = Linear(intermediate_size, config.hidden_size, bias=config.down_bias)

    def forward(self, x: Tensor, routings: list[Routing] | None = None) -> Tensor:
        """[..., hidden] -> [..., hidden]; ``routings`` as for a mixture of experts, which decides something."""
        return self.descend(self.gate_up(x))

    def descend(self, gate_up: Tensor) -> Tensor:
        """[..., 2 intermediate] -> [..., hidden]"""
        return self.down(swiglu(gate_up))
