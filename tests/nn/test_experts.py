"""A mixture equals each token through each of its experts, one after another; its router's gradient equals finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.balancing import balance_loss
from beichen.nn.config import DecoderConfig, ExpertsConfig
from beichen.nn.experts import Mixture, mix
from beichen.nn.routing import Routing
from tests import needs

CASES: list[dict[str, Any]] = [
    {},
    {"num_experts": 7, "num_experts_per_token": 3, "normalize_top_k": True},
    {"down_bias": True},
    {"shared_intermediate_size": 9},
    {"num_experts_per_token": 1, "scoring": "sigmoid"},
    {"num_experts": 2, "num_experts_per_token": 2, "down_bias": True, "shared_intermediate_size": 4, "normalize_top_k": True},
]


def mixture(hidden: int = 6, dtype: torch.dtype = torch.float32, **changes: Any) -> Mixture:
    experts = ExpertsConfig(**{"num_experts": 4, "num_experts_per_token": 2, "intermediate_size": 5, **changes})
    sizes: dict[str, Any] = dict.fromkeys(
        ("vocab_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "max_position_embeddings"), 1
    )
    module = Mixture(DecoderConfig(hidden_size=hidden, head_dim=2, intermediate_size=8, experts=experts, **sizes), experts)
    for number, parameter in enumerate(module.parameters()):
        parameter.data.normal_(0.0, 0.6, generator=torch.Generator().manual_seed(number))
    return module.to(dtype).eval()


def inputs(hidden: int = 6, dtype: torch.dtype = torch.float32, tokens: int = 9) -> Tensor:
    return torch.randn(2, tokens, hidden, generator=torch.Generator().manual_seed(99)).to(dtype)


def feed_forward(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = (gate_up @ x).chunk(2)
    return down @ (gate / (1 + torch.exp(-gate)) * up)


def slow(module: Mixture, x: Tensor, dropped: Tensor | None = None) -> Tensor:
    """Token by token and choice by choice in float64; dropped [rows, tokens, choices]."""
    config, state = module.config, {name: tensor.double() for name, tensor in module.state_dict().items()}
    out = torch.zeros_like(x, dtype=torch.float64)
    for row in range(x.shape[0]):
        for token in range(x.shape[1]):
            one = x[row, token].double()
            logits = [float(line @ one) for line in state["router.weight"]]
            if config.scoring == "softmax":
                total = sum(math.exp(logit) for logit in logits)
                scores = [math.exp(logit) / total for logit in logits]
            else:
                scores = [1 / (1 + math.exp(-logit)) for logit in logits]
            chosen = sorted(range(len(scores)), key=lambda expert: -scores[expert])[: config.num_experts_per_token]
            total = sum(scores[expert] for expert in chosen) if config.normalize_top_k else 1.0
            for place, expert in enumerate(chosen):
                if dropped is not None and bool(dropped[row, token, place]):
                    continue
                answer = feed_forward(one, state["experts.gate_up.weight"][expert], state["experts.down.weight"][expert])
                if config.down_bias:
                    answer = answer + state["experts.down.bias"][expert]
                out[row, token] += scores[expert] / total * answer
            if module.shared is not None:
                out[row, token] += feed_forward(one, state["shared.gate_up.weight"], state["shared.down.weight"])
    return out


@pytest.mark.parametrize("changes", CASES)
@pytest.mark.parametrize("hidden", [6, 16])
@pytest.mark.parametrize("backend", ["torch", "kernels"])
def test_equals_token_by_token(changes, hidden, backend):
    if backend == "kernels":
        needs.need_compiled_kernels()
    module, x = mixture(hidden, **changes), inputs(hidden)
    expected = slow(module, x)
    with torch.no_grad():
        if backend == "torch":
            with kernels.switched_off():
                found = module(x)
        else:
            found = module(x)
    assert float((found - expected).norm() / expected.norm()) < 1e-6


def test_what_was_decided_travels_out_and_changes_nothing():
    module, x, routings = mixture(), inputs(), list[Routing]()
    assert torch.equal(module(x, routings), module(x))
    assert len(routings) == 1 and routings[0].chosen.shape == (2, 9, 2) and routings[0].kept is None


def test_capacity_limits_training_alone():
    module, x = mixture(capacity_factor=0.5, down_bias=True), inputs()
    torch.testing.assert_close(module(x).double(), slow(module, x), atol=2e-6, rtol=2e-6)
    routings: list[Routing] = []
    found = module.train()(x, routings)
    assert routings[0].kept is not None and 0 < int(routings[0].kept.sum()) <= 4 * 5  # each of 4 experts serves ceil(36 x 0.5 / 4) = 5
    torch.testing.assert_close(found.double(), slow(module, x, ~routings[0].kept), atol=2e-6, rtol=2e-6)


def test_the_output_is_rounded_only_where_asked_for():
    exact, rounded = mixture()(inputs()), mixture(output_rounding="bfloat16")(inputs())
    assert torch.equal(rounded, exact.bfloat16().float()) and not torch.equal(rounded, exact)


@pytest.mark.parametrize("changes", [*CASES, {"balance_factor": 0.3}, {"balance_factor": 0.3, "balance_form": "sequence"}])
def test_every_gradient_equals_finite_differences(changes):
    """In float64, where a step is too small to change a choice; the router's comes through weights and through the balance loss."""
    module, x = mixture(dtype=torch.float64, **changes), inputs(dtype=torch.float64, tokens=5)
    direction = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss() -> Tensor:
        routings: list[Routing] = []
        value = (module(x, routings) * direction).sum()
        return value + balance_loss(routings, module.config).sum()

    loss().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(flat), max(1, len(flat) // 20)):
            old, step = float(flat[place]), 1e-6
            with torch.no_grad():
                flat[place] = old + step
                above = float(loss())
                flat[place] = old - step
                below = float(loss())
                flat[place] = old
            assert float(gradient[place]) == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-7), (name, place)


def test_experts_that_nobody_chose_have_no_gradient_and_others_do():
    module = mixture(num_experts=6, num_experts_per_token=1)
    routings: list[Routing] = []
    module(inputs(tokens=2), routings).sum().backward()
    used = set(routings[0].chosen.flatten().tolist())
    assert 0 < len(used) < 6
    for stacked in (module.experts.gate_up.weight, module.experts.down.weight):
        assert stacked.grad is not None
        assert {expert for expert in range(6) if stacked.grad[expert].any()} == used


def test_bfloat16_stays_bfloat16_and_near():
    exact = mixture(16, shared_intermediate_size=8, down_bias=True)
    found = mixture(16, dtype=torch.bfloat16, shared_intermediate_size=8, down_bias=True)(inputs(16, torch.bfloat16))
    near = exact(inputs(16)).detach()
    assert found.dtype == torch.bfloat16 and float((found.detach().float() - near).norm() / near.norm()) < 0.03


def test_torch_operations_take_a_dropped_choice_like_any_other():
    """A weight of zero removes exactly one expert's part."""
    module, x = mixture(), inputs()[0]
    chosen = torch.tensor([[0, 3]] * 9)
    weights = torch.tensor([[0.25, 0.5]] * 9)
    stacked = module.experts.gate_up.weight, module.experts.down.weight
    both = mix(x, *stacked, chosen, weights)
    first = mix(x, *stacked, chosen, weights * torch.tensor([1.0, 0.0]))
    second = mix(x, *stacked, chosen, weights * torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(first + second, both, atol=1e-6, rtol=1e-6)
