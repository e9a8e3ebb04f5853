"""The SwiGLU feed-forward: gate and up as one fused matrix, rows gate then up."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels
from beichen.nn.config import DecoderConfig
from beichen.nn.linear import Linear
from beichen.nn.routing import Routing
from beichen.nn.spans import Span


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

    def forward(self, x: Tensor, routings: list[Routing] | None = None, spans: Sequence[Span] = ()) -> Tensor:
        """[..., hidden] -> [..., hidden]; ``routings`` as for a mixture of experts, which decides something."""
        return self.descend(self.gate_up(x, spans), spans)

    def descend(self, gate_up: Tensor, spans: Sequence[Span] = ()) -> Tensor:
        """[..., 2 intermediate] -> [..., hidden]"""
        return self.down(swiglu(gate_up), spans)
