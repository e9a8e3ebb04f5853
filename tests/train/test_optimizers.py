"""AdamW equals torch's, Muon's updates are orthogonal part by part, masters keep what bf16 cannot, and state survives a round trip."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.errors import CheckpointError, SettingsError
from beichen.nn import kernels
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.train.optimizer_settings import GroupSettings, OptimizerSettings
from beichen.train.optimizers import Optimizer
from beichen.train.orthogonal import orthogonalize
from tests.train.small_runs import tiny_decoder

BACKENDS = ["torch", pytest.param("kernels", marks=pytest.mark.skipif(not kernels.status().available, reason=kernels.status().reason))]

RATES = ("learning_rate", "matrix_learning_rate", "embedding_learning_rate", "head_learning_rate")


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    with kernels.switched_off() if name == "torch" else contextlib.nullcontext():
        yield


def set_gradients(decoder: Decoder, seed: int, size: float = 1.0) -> dict[str, Tensor]:
    """Random gradients, in the parameters' own format.  -> copies by name"""
    generator = torch.Generator().manual_seed(seed)
    copies = {}
    for name, parameter in decoder.named_parameters():
        parameter.grad = (torch.randn(parameter.shape, generator=generator) * size).to(parameter.dtype)
        copies[name] = parameter.grad.clone()
    return copies


def values(decoder: Decoder) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in decoder.named_parameters()}


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_adamw_equals_torch(name, clip_norm):
    """20 steps of a changing rate, in float32: the order of operations differs, so a few last bits may."""
    settings = OptimizerSettings(name="adamw", learning_rate=0.03, beta1=0.8, beta2=0.9, weight_decay=0.1, clip_norm=clip_norm)
    ours, theirs = tiny_decoder(), tiny_decoder()
    matrices = [parameter for parameter in theirs.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in theirs.parameters() if parameter.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.03, betas=(0.8, 0.9), eps=1e-8)
    with backend(name):
        optimizer = Optimizer(ours, settings)
        for step in range(20):
            set_gradients(ours, step), set_gradients(theirs, step)
            for parameter in theirs.parameters():
                assert parameter.grad is not None
                parameter.grad /= 7
            norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm or math.inf)
            factor = 1.0 - step / 25
            for group in reference.param_groups:
                group["lr"] = 0.03 * factor
            reference.step()
            assert optimizer.step(factor, 7) == pytest.approx(float(norm), rel=1e-5)
    for parameter, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_both_ways_of_computing_agree(name, kind):
    """bf16 parameters; Muon's direction is bf16, so its orthogonal matrix is known to some 1 %."""
    settings = OptimizerSettings(name=kind, weight_decay=0.1)
    plain, other = tiny_decoder(dtype=torch.bfloat16), tiny_decoder(dtype=torch.bfloat16)
    first = Optimizer(plain, settings)
    with kernels.switched_off():
        for step in range(5):
            set_gradients(plain, step)
            first.step(1.0, 3)
    with backend(name):
        second = Optimizer(other, settings)
        for step in range(5):
            set_gradients(other, step)
            second.step(1.0, 3)
    start = {f"master.{key}": value.float() for key, value in values(tiny_decoder(dtype=torch.bfloat16)).items()}
    for key, expected in first.state().items():
        found = second.state()[key]
        moved = float((expected - start.get(key, torch.zeros(()))).norm())
        assert float((found - expected).norm()) <= 0.02 * moved, key


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("name", BACKENDS)
def test_the_parameter_is_its_master_rounded(kind, name):
    decoder = tiny_decoder(dtype=torch.bfloat16)
    with backend(name):
        optimizer = Optimizer(decoder, OptimizerSettings(name=kind))
        for step in range(3):
            set_gradients(decoder, step)
            optimizer.step(1.0, 1)
            state = optimizer.state()
            for key, parameter in decoder.named_parameters():
                assert torch.equal(parameter.detach(), state[f"master.{key}"].bfloat16())
                assert parameter.grad is None


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("name", BACKENDS)
def test_steps_too_small_for_bf16_add_up_in_the_master(kind, name):
    """Each step moves a weight of size 1 by less than half of bf16's last bit; a hundred of them must still arrive."""
    rates: dict[str, Any] = dict.fromkeys(RATES, 1e-4)
    decoder = tiny_decoder(dtype=torch.bfloat16)
    for parameter in decoder.parameters():
        parameter.data.fill_(1.0)
    with backend(name):
        optimizer = Optimizer(decoder, OptimizerSettings(name=kind, clip_norm=0.0, **rates))
        for step in range(100):
            set_gradients(decoder, 0)
            optimizer.step(1.0, 1)
            if step == 0:
                assert all(bool((parameter == 1.0).all()) for parameter in decoder.parameters())
    assert all(bool((parameter != 1.0).any()) for parameter in decoder.parameters())


@pytest.mark.parametrize("name", BACKENDS)
def test_muon_moves_each_fused_matrix_by_an_orthogonal_one(name):
    settings = OptimizerSettings(name="muon", matrix_learning_rate=0.5, clip_norm=0.0, momentum=0.0)
    decoder = tiny_decoder()
    config, before = decoder.config, values(decoder)
    given = set_gradients(decoder, 1)
    with backend(name):
        Optimizer(decoder, settings).step(0.1, 4)
    cuts = {
        "attention.qkv.weight": [config.query_size, config.key_value_size, config.key_value_size],
        "attention.output.weight": [config.hidden_size],
        "feed_forward.gate_up.weight": [config.intermediate_size] * 2,
        "feed_forward.down.weight": [config.hidden_size],
    }
    for layer in range(2):
        for suffix, rows in cuts.items():
            key = f"layers.{layer}.{suffix}"
            parts = zip(before[key].split(rows), decoder.get_parameter(key).detach().split(rows), given[key].split(rows), strict=True)
            for old, new, gradient in parts:
                scale = 0.5 * 0.1 * math.sqrt(max(1.0, old.shape[0] / old.shape[1]))
                moved = (old - new) / scale
                singular = torch.linalg.svdvals(moved)
                assert float(singular.min()) > 0.7 and float(singular.max()) < 1.3
                alone = orthogonalize((gradient / 4).bfloat16()[None])[0].float()
                assert float((moved - alone).norm() / alone.norm()) < 0.01


def test_muon_moves_each_stacked_expert_by_itself():
    """As if every expert's matrices were parameters of their own; biases, though stacked too, are no matrices."""
    experts = ExpertsConfig(num_experts=3, num_experts_per_token=2, intermediate_size=8, down_bias=True)
    decoder = tiny_decoder(experts=experts)
    before, given = values(decoder), set_gradients(decoder, 1)
    optimizer = Optimizer(decoder, OptimizerSettings(name="muon", matrix_learning_rate=0.5, clip_norm=0.0, momentum=0.0))
    assert "moment1.layers.0.feed_forward.experts.down.bias" in optimizer.state()  # AdamW's second
    optimizer.step(0.1, 4)
    for suffix, height in (("gate_up.weight", 8), ("down.weight", 16)):
        key = f"layers.1.feed_forward.experts.{suffix}"
        for expert in range(3):
            parts = zip(
                *(tensor[expert].split(height) for tensor in (before[key], decoder.get_parameter(key).detach(), given[key])), strict=True
            )
            for old, new, gradient in parts:
                alone = orthogonalize((gradient / 4).bfloat16()[None])[0].float()
                moved = (old - new) / (0.5 * 0.1 * math.sqrt(max(1.0, old.shape[0] / old.shape[1])))
                assert float((moved - alone).norm() / alone.norm()) < 0.01


def test_muon_takes_the_layers_matrices_and_adamw_the_rest():
    rates: dict[str, Any] = {"embedding_learning_rate": 0.4, "head_learning_rate": 0.2, "learning_rate": 0.1}
    decoder = tiny_decoder()
    optimizer = Optimizer(decoder, OptimizerSettings(name="muon", clip_norm=0.0, **rates))
    second = {key.removeprefix("moment1.") for key in optimizer.state() if key.startswith("moment1.")}
    everything = dict(decoder.named_parameters())
    assert second == {key for key, value in everything.items() if value.ndim == 1 or not key.startswith("layers.")}
    before = values(decoder)
    set_gradients(decoder, 2)
    optimizer.step(1.0, 1)
    for key in second:  # Adam's first step has the size of its rate
        expected = {"embedding.weight": 0.4, "head.weight": 0.2}.get(key, 0.1)
        torch.testing.assert_close(
            (everything[key].detach() - before[key]).abs(), torch.full_like(before[key], expected), rtol=1e-3, atol=0
        )


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("name", BACKENDS)
def test_weight_decay_acts_on_matrices_alone(kind, name):
    """Without gradients worth mentioning, matrices shrink by rate * decay and vectors stay."""
    rates: dict[str, Any] = dict.fromkeys(RATES, 0.1)
    experts = ExpertsConfig(num_experts=3, num_experts_per_token=2, intermediate_size=8, first_dense_layers=1, down_bias=True)
    decoder = tiny_decoder(experts=experts)
    for parameter in decoder.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    with backend(name):
        Optimizer(decoder, OptimizerSettings(name=kind, weight_decay=0.5, **rates)).step(1.0, 1)
    for key, parameter in decoder.named_parameters():
        expected = 1.0 - 0.1 * 0.5 if parameter.ndim >= 2 and "bias" not in key else 1.0
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", BACKENDS)
def test_the_norm_is_that_of_the_mean_gradient(dtype, name):
    decoder = tiny_decoder(dtype=dtype)
    given = set_gradients(decoder, 3)
    expected = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in given.values())) / 5
    with backend(name):
        assert Optimizer(decoder, OptimizerSettings()).step(1.0, 5) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_only_the_target_count_times_the_gradient_matters(kind):
    """Summed gradients of 8 targets and the same eightfold for 64 are one step."""
    found = []
    for factor in (1, 8):
        decoder = tiny_decoder()
        optimizer = Optimizer(decoder, OptimizerSettings(name=kind))
        for step in range(3):
            set_gradients(decoder, step, size=float(factor))
            optimizer.step(1.0, 8 * factor)
        found.append(torch.cat([parameter.detach().flatten() for parameter in decoder.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_parameter_without_a_gradient_stays():
    decoder = tiny_decoder()
    before = values(decoder)
    optimizer = Optimizer(decoder, OptimizerSettings(weight_decay=0.1))
    set_gradients(decoder, 0)
    decoder.embedding.weight.grad = None
    decoder.get_parameter("layers.0.attention.qkv.weight").grad = None
    optimizer.step(1.0, 1)
    changed = {key for key, value in decoder.named_parameters() if not torch.equal(value.detach(), before[key])}
    assert changed == before.keys() - {"embedding.weight", "layers.0.attention.qkv.weight"}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_frozen_weights_have_no_state_and_never_move(kind):
    decoder = tiny_decoder(dtype=torch.bfloat16)
    frozen = {"embedding.weight", "layers.0.attention.qkv.weight", "final_norm.weight"}
    for name in frozen:
        decoder.get_parameter(name).requires_grad_(False)
    before = values(decoder)
    optimizer = Optimizer(decoder, OptimizerSettings(name=kind, weight_decay=0.1))
    assert not any(key.endswith(name) for key in optimizer.state() for name in frozen)
    set_gradients(decoder, 0)
    for name in frozen:
        decoder.get_parameter(name).grad = None
    optimizer.step(1.0, 1)
    assert {key for key, value in decoder.named_parameters() if torch.equal(value.detach(), before[key])} == frozen


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("name", BACKENDS)
def test_asking_for_the_norm_first_changes_no_bit(kind, name):
    plain, asked = tiny_decoder(), tiny_decoder()
    with backend(name):
        first, second = Optimizer(plain, OptimizerSettings(name=kind)), Optimizer(asked, OptimizerSettings(name=kind))
        for step in range(3):
            set_gradients(plain, step), set_gradients(asked, step)
            assert first.step(1.0, 5) == second.step(1.0, 5, second.gradient_norm(5))
    assert all(torch.equal(left, right) for left, right in zip(plain.parameters(), asked.parameters(), strict=True))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_discarded_step_leaves_nothing_behind(name):
    """A gradient that is not finite is seen in the norm; the step after it is as if it had not been."""
    plain, spoilt = tiny_decoder(), tiny_decoder()
    with backend(name):
        first, second = Optimizer(plain, OptimizerSettings()), Optimizer(spoilt, OptimizerSettings())
        for step in range(3):
            set_gradients(spoilt, 9)
            gradient = spoilt.get_parameter("final_norm.weight").grad
            assert gradient is not None
            gradient[3] = (math.nan, math.inf, -math.inf)[step]
            assert not math.isfinite(second.gradient_norm(5))
            second.discard()
            assert all(parameter.grad is None for parameter in spoilt.parameters())
            set_gradients(plain, step), set_gradients(spoilt, step)
            first.step(1.0, 5), second.step(1.0, 5)
    assert all(torch.equal(left, second.state()[key]) for key, left in first.state().items()) and second.steps == 3


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_going_on_from_a_state_equals_never_having_stopped(kind, dtype):
    """Bit for bit, also where bf16 parameters alone could not tell."""
    settings = OptimizerSettings(name=kind, weight_decay=0.1)
    whole, first, second = (tiny_decoder(dtype=dtype) for _ in range(3))
    straight, before = Optimizer(whole, settings), Optimizer(first, settings)
    for step in range(6):
        set_gradients(whole, step)
        straight.step(1.0, 2)
    for step in range(3):
        set_gradients(first, step)
        before.step(1.0, 2)
    after = Optimizer(second, settings)
    after.load_state({key: tensor.clone() for key, tensor in before.state().items()}, 3)
    assert all(torch.equal(left, right) for left, right in zip(first.parameters(), second.parameters(), strict=True))
    for step in range(3, 6):
        set_gradients(second, step)
        after.step(1.0, 2)
    assert straight.steps == after.steps == 6
    for key, tensor in straight.state().items():
        assert torch.equal(tensor, after.state()[key]), key


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("name", BACKENDS)
def test_without_masters_steps_add_up_on_average(kind, name):
    """Law: rounded at random, steps below bf16's last bit arrive as they do with masters; rounded to nearest, none of them would."""
    rates: dict[str, Any] = dict.fromkeys(RATES, 1e-4)
    moved = {}
    for masters in (True, False):
        decoder = tiny_decoder(dtype=torch.bfloat16)
        for parameter in decoder.parameters():
            parameter.data.fill_(1.0)
        with backend(name):
            optimizer = Optimizer(decoder, OptimizerSettings(name=kind, clip_norm=0.0, master_weights=masters, **rates))
            for _ in range(60):
                set_gradients(decoder, 0)
                optimizer.step(1.0, 1)
        assert {tensor.dtype for tensor in optimizer.state().values()} == {torch.float32 if masters else torch.bfloat16}
        moved[masters] = {key: value.float() - 1.0 for key, value in optimizer.state().items() if key.startswith("master")}
    matrices = [key for key in moved[True] if moved[True][key].ndim == 2]
    exact, drawn = (torch.cat([moved[masters][key].flatten() for key in matrices]) for masters in (True, False))
    assert float((drawn - exact).mean().abs()) < 0.05 * float(exact.abs().mean())  # no drift
    assert float(drawn @ exact) > 0.8 * float(exact @ exact)


def test_without_masters_both_ways_of_rounding_agree_bit_for_bit():
    """Weights in chunks or whole, by kernel or in torch; the step itself is in torch in both, since kernels order sums otherwise."""
    found = []
    for chunk in (1 << 18, 100):
        decoder = tiny_decoder(dtype=torch.bfloat16)
        with pytest.MonkeyPatch.context() as patch, kernels.switched_off():
            patch.setattr("beichen.train.adamw.CHUNK", chunk)
            optimizer = Optimizer(decoder, OptimizerSettings(name="adamw", master_weights=False), seed=5)
            for step in range(3):
                set_gradients(decoder, step)
                optimizer.step(1.0, 1)
        found.append(optimizer.state())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    other = tiny_decoder(dtype=torch.bfloat16)
    set_gradients(other, 0)
    Optimizer(other, OptimizerSettings(name="adamw", master_weights=False), seed=6).step(1.0, 1)
    assert any(not torch.equal(found[0][f"master.{key}"], value) for key, value in values(other).items())


def test_masters_are_kept_for_float16():
    with pytest.raises(SettingsError, match="only bfloat16"):
        Optimizer(tiny_decoder(dtype=torch.float16), OptimizerSettings(master_weights=False))


def test_groups_have_rates_and_decay_of_their_own():
    """By name, the first that fits; what they leave open is as for the others, and vectors never decay."""
    groups = (
        GroupSettings(parameters="layers.0.*.weight", learning_rate=0.3),
        GroupSettings(parameters="layers.*", weight_decay=1.0, learning_rate=0.2),
    )
    settings = OptimizerSettings(name="adamw", learning_rate=0.1, weight_decay=0.5, groups=groups)
    decoder = tiny_decoder()
    for parameter in decoder.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(decoder, settings).step(1.0, 1)
    for key, parameter in decoder.named_parameters():
        rate, decay = (
            (0.3, 0.5) if key.startswith("layers.0.") and key.endswith("weight") else (0.2, 1.0) if "layers" in key else (0.1, 0.5)
        )
        expected = 1.0 - rate * decay if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, expected), msg=key)


def test_a_group_that_fits_nothing_is_refused_with_names():
    with pytest.raises(SettingsError, match=r"'layers\.0\.attention\.qkv\.weigth' fits no trained parameter \(did you mean"):
        Optimizer(tiny_decoder(), OptimizerSettings(groups=(GroupSettings(parameters="layers.0.attention.qkv.weigth"),)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masters", [True, False])
def test_the_average_follows_and_is_the_result_on_request(dtype, masters):
    settings = OptimizerSettings(name="adamw", average_decay=0.6, result="average", master_weights=masters)
    decoder = tiny_decoder(dtype=dtype)
    optimizer = Optimizer(decoder, settings)
    expected = {key: value.float() for key, value in values(decoder).items()}
    for step in range(1, 6):
        set_gradients(decoder, step)
        optimizer.step(1.0, 1)
        kept = min(0.6, (step + 1) / (step + 10))
        expected = {key: kept * value + (1 - kept) * optimizer.state()[f"master.{key}"].float() for key, value in expected.items()}
    own = values(decoder)
    with optimizer.result():
        for key, parameter in decoder.named_parameters():
            torch.testing.assert_close(
                parameter.detach(), expected[key].to(dtype), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6
            )
    assert all(torch.equal(value, own[key]) for key, value in values(decoder).items())
    resumed = Optimizer(tiny_decoder(1, dtype=dtype), settings)
    resumed.load_state(optimizer.state(), 5)
    assert all(torch.equal(tensor, resumed.state()[key]) for key, tensor in optimizer.state().items())


def test_the_loss_scale_changes_no_step():
    """float16 gradients of losses times the scale: the same norm and the same step; an overflow halves the scale and is left out."""
    plain, scaled = tiny_decoder(), tiny_decoder(dtype=torch.float16)
    with torch.no_grad():
        for parameter, half in zip(plain.parameters(), scaled.parameters(), strict=True):
            parameter.copy_(half)
    first, second = Optimizer(plain, OptimizerSettings(name="adamw")), Optimizer(scaled, OptimizerSettings(name="adamw"))
    assert first.loss_scale == 1.0 and not first.lower_loss_scale()
    for step in range(4):
        set_gradients(plain, step), set_gradients(scaled, step)
        for parameter, half in zip(plain.parameters(), scaled.parameters(), strict=True):
            assert half.grad is not None
            parameter.grad = half.grad.float()
            half.grad = half.grad * second.loss_scale
        if step == 2:
            gradient = next(scaled.parameters()).grad
            assert gradient is not None
            gradient[0] = math.inf
            assert second.gradient_norm(3) == math.inf and second.lower_loss_scale() and second.loss_scale == 8.0
            first.discard()
            second.discard()
            continue
        assert second.step(1.0, 3) == pytest.approx(first.step(1.0, 3), rel=1e-6)
    for key, tensor in first.state().items():
        torch.testing.assert_close(tensor, second.state()[key], rtol=1e-4, atol=1e-6)
    again = Optimizer(tiny_decoder(dtype=torch.float16), OptimizerSettings(name="adamw"))
    again.load_state(second.state(), 3)
    assert again.loss_scale == 8.0


def test_a_state_of_another_model_is_refused_by_name():
    state = Optimizer(tiny_decoder(), OptimizerSettings()).state()
    fresh = Optimizer(tiny_decoder(), OptimizerSettings())
    with pytest.raises(CheckpointError, match=r"master\.head\.weight is missing, expected \(30, 16\)") as fault:
        fresh.load_state({key: value for key, value in state.items() if key != "master.head.weight"}, 1)
    assert "remedy" in str(fault.value)
    with pytest.raises(CheckpointError, match=r"of shape \(5, 16\), expected \(30, 16\)"):
        fresh.load_state(state | {"moment0.head.weight": torch.zeros(5, 16)}, 1)
    with pytest.raises(CheckpointError, match="is missing"):  # AdamW keeps a second moment that Muon has not
        Optimizer(tiny_decoder(), OptimizerSettings(name="adamw")).load_state(state, 1)
