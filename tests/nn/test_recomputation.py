"""What is computed again gives, bit for bit, the gradients of what was kept; dropout and routings are those of the first time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.nn.recomputation import WAYS, Recompute, recomputed
from beichen.objectives.next_token import next_token
from tests import needs
from tests.train.small_runs import random_batch, tiny_decoder

EXPERTS = ExpertsConfig(
    num_experts=3, num_experts_per_token=2, intermediate_size=8, shared_intermediate_size=8, first_dense_layers=1, capacity_factor=1.0,
    balance_factor=0.5,
)  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "dropout": {"hidden_dropout": 0.3, "attention_dropout": 0.2},
    "experts": {"experts": EXPERTS},
    "experts with dropout": {"experts": EXPERTS, "hidden_dropout": 0.3},
    "residual after norm": {"residual_after_norm": True},
    "layer norm": {"norm": "layer"},
    "query norm": {"query_key_norm": True},
}


def gradients(decoder: Decoder, way: Recompute) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of one batch."""
    decoder.train().zero_grad(set_to_none=True)
    decoder.recompute = way
    torch.manual_seed(3)
    found = next_token(decoder, random_batch(rows=2, tokens=11, seed=1))
    found.minimised.backward()
    after = torch.rand(1)  # the generator goes on as if nothing had been drawn a second time
    losses = {"loss": found.loss_sum.detach(), **{name: loss.detach() for name, loss in found.auxiliary.items()}, "after": after}
    return losses, {name: parameter.grad for name, parameter in decoder.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_of_keeping_everything(model, way):
    """Float32: bit for bit, the balance loss counted once."""
    decoder = tiny_decoder(**MODELS[model])
    kept_losses, kept = gradients(decoder, "nothing")
    losses, found = gradients(decoder, way)
    assert "balance_loss" in losses or "experts" not in model
    assert losses.keys() == kept_losses.keys() and all(torch.equal(losses[name], kept_losses[name]) for name in losses)
    assert found.keys() == kept.keys() == dict(decoder.named_parameters()).keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)


@needs.compiled_kernels
@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("model", ["dense", "experts", "query norm"])
def test_with_kernels_too(model, way):
    """bf16: equal where a layer is one whole, within the rounding of the sum where additions and norms are apart."""
    decoder = tiny_decoder(dtype=torch.bfloat16, **MODELS[model])
    _, kept = gradients(decoder, "nothing")
    _, found = gradients(decoder, way)
    for name, gradient in kept.items():
        if way == "layer":
            assert torch.equal(found[name], gradient), name
        else:
            assert float((found[name] - gradient).float().norm()) <= 0.03 * float(gradient.float().norm()), name


def kept_bytes(decoder: Decoder, way: Recompute) -> int:
    """Bytes that the forward pass leaves for the backward pass, weights excluded; each storage once."""
    decoder.train()
    decoder.recompute = way
    storages: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in decoder.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = random_batch(rows=2, tokens=64, seed=1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = decoder(batch.input_ids, positions=batch.positions, first_visible=batch.first_visible)
    assert hidden.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_less_is_kept(dtype):
    decoder = tiny_decoder(dtype=dtype, num_hidden_layers=6, hidden_size=32, head_dim=8, intermediate_size=88, max_position_embeddings=64)
    nothing, selective, layer = (kept_bytes(decoder, way) for way in WAYS)
    assert selective < 0.75 * nothing
    assert layer < 0.35 * nothing


@pytest.mark.parametrize("way", WAYS[1:])
def test_evaluation_and_decoding_take_no_notice(way):
    decoder = tiny_decoder().eval()
    ids = torch.arange(10)[None]
    before = decoder(ids)
    decoder.recompute = way
    assert torch.equal(decoder(ids), before)


def test_a_function_runs_again_only_for_its_gradient():
    calls = []

    def square(x: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return x * x

    x = torch.tensor(3.0, requires_grad=True)
    with torch.no_grad():
        assert float(recomputed(square, x)) == 9.0
    assert calls == [False]
    recomputed(square, x).backward()
    assert calls == [False, True, True] and x.grad is not None and float(x.grad) == 6.0
