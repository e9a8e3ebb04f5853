"""The feed-forward is down(silu(gate x) * up x), gate rows before up rows in the fused matrix."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from beichen.nn import kernels
from beichen.nn.config import DecoderConfig
from beichen.nn.feed_forward import FeedForward, swiglu
from tests import needs


def small(**changes: Any) -> FeedForward:
    settings: dict[str, Any] = {
        "vocab_size": 8, "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 6,
        "intermediate_size": 10, "max_position_embeddings": 8,
    }  # fmt: skip
    config = DecoderConfig(**{**settings, **changes})
    module = FeedForward(config, intermediate_size=config.intermediate_size)
    for number, parameter in enumerate(module.parameters()):
        parameter.data.normal_(0.0, 0.5, generator=torch.Generator().manual_seed(number))
    return module


@pytest.mark.parametrize("changes", [{}, {"down_bias": True}, {"gate_up_bias": True, "down_bias": True}])
def test_equals_scalar_arithmetic(changes):
    module = small(**changes)
    state = {name: tensor.double() for name, tensor in module.state_dict().items()}
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(9))
    for vector, found in zip(x.double(), module(x), strict=True):
        inner = []
        for unit in range(10):
            gate, up = (
                float(state["gate_up.weight"][row] @ vector) + float(state["gate_up.bias"][row] if "gate_up.bias" in state else 0.0)
                for row in (unit, 10 + unit)
            )
            inner.append(gate / (1 + math.exp(-gate)) * up)
        out = state["down.weight"] @ torch.tensor(inner, dtype=torch.float64) + state.get("down.bias", 0.0)
        torch.testing.assert_close(found.double(), out, atol=2e-6, rtol=0)
    assert set(module.state_dict()) == {"gate_up.weight", "down.weight"} | {
        f"{name.removesuffix('_bias')}.bias" for name, wanted in changes.items() if wanted
    }


def test_extreme_gates_stay_finite():
    gate_up = torch.tensor([[-1e4, 1e4, 0.0, 2.0, 3.0, 5.0]])
    assert swiglu(gate_up).tolist() == [[0.0, 3e4, 0.0]]


@needs.compiled_kernels
def test_kernels_and_torch_agree_in_value_and_gradient():
    """Torch rounds silu(gate) to bf16 before the product, the kernel the product alone: two roundings of 2**-9 apart."""
    x = (torch.randn(40, 64, generator=torch.Generator().manual_seed(5)) * 3).bfloat16()
    wanted = torch.randn(40, 32, generator=torch.Generator().manual_seed(6)).bfloat16()

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        given = x.clone().requires_grad_()
        out = swiglu(given)
        out.backward(wanted)
        assert given.grad is not None
        return out.detach(), given.grad

    fast = run()
    with kernels.switched_off():
        slow = run()
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=2**-6, atol=2e-3)
