"""What training asks of a mixture: set where it acts, refused where it cannot, biases that even the load out, saved and resumed whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import CheckpointError, ConfigError, SettingsError
from beichen.models.registry import load_family
from beichen.nn.balancing import Balancing
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.nn.experts import Mixture
from beichen.nn.initialization import initialize
from beichen.objectives.next_token import next_token
from beichen.train.expert_balancing import SelectionBiases, mixtures, set_experts_training
from beichen.train.experts_settings import ExpertsTrainingSettings
from beichen.train.optimizers import Optimizer
from beichen.train.settings import OptimizerSettings
from beichen.train.step import Gathered, gather
from tests.train.small_runs import RandomBatches, tiny_decoder

EXPERTS = ExpertsConfig(num_experts=6, num_experts_per_token=2, intermediate_size=8, balance_factor=0.5, balance_form="sequence")


BIASED = replace(EXPERTS, selection_bias=True)


def asked(**settings: Any) -> ExpertsTrainingSettings:
    return ExpertsTrainingSettings(**settings)


def family_decoder(family: str, **changes: Any) -> Decoder:
    config = load_family(family).new_config(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, max_position_embeddings=32,
        experts=ExpertsConfig(**{"num_experts": 6, "num_experts_per_token": 2, "intermediate_size": 8, **changes}),
    )  # fmt: skip
    decoder = Decoder(config)
    initialize(decoder, 0)
    return decoder


def weights_of(mixture: Mixture) -> tuple[torch.Tensor, torch.Tensor]:
    """A router's matrix and its biases."""
    weight, bias = mixture.router.weight, mixture.router.bias
    assert isinstance(weight, torch.Tensor) and isinstance(bias, torch.Tensor)
    return weight, bias


def gathered(load: torch.Tensor, weight: float = 1.0) -> Gathered:
    figures = {"expert_load": load * weight}
    return Gathered(losses=[0.0], auxiliary={}, figures=figures, tokens=1, targets=1, target_weight=weight)


def test_null_means_as_the_model_says_and_a_number_means_itself():
    decoder = tiny_decoder(experts=EXPERTS)
    assert decoder.balancing == Balancing(factor=0.5, form="sequence")
    assert set_experts_training(decoder, asked(z_loss_factor=0.1), family="ndl") is None
    assert decoder.balancing == Balancing(factor=0.5, form="sequence", z_loss_factor=0.1)
    set_experts_training(
        decoder, asked(balance_factor=0.0, balance_form="batch", device_groups=3, device_balance_factor=0.2), family="ndl"
    )  # fmt: skip
    assert decoder.balancing == Balancing(factor=0.0, form="batch", device_groups=3, device_factor=0.2)
    assert decoder.config.experts == EXPERTS  # what is saved stays as it was


def test_a_capacity_is_set_and_taken_away_in_training_alone():
    decoder = tiny_decoder(experts=EXPERTS)
    batch = RandomBatches(rows=3).micro_batches(0)[0]
    set_experts_training(decoder, asked(capacity_factor=0.5), family="ndl")
    figures = next_token(decoder.train(), batch).figures
    assert figures["drop_rate"].shape == (2,) and float(figures["drop_rate"].min()) > 0.3 * batch.target_weight
    assert next_token(decoder.eval(), batch).figures == {}
    set_experts_training(decoder, asked(capacity_factor=0.0), family="ndl")
    assert "drop_rate" not in next_token(decoder.train(), batch).figures


def test_biases_move_by_the_rate_against_the_deviation_and_stay_where_there_is_none():
    decoder = tiny_decoder(experts=BIASED)
    biases = set_experts_training(decoder, asked(bias_rate=0.125), family="ndl")
    assert biases is not None and float(biases.masters.abs().max()) == 0.0
    load = torch.tensor([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], [1 / 6 + 1e-8, *[1 / 6] * 5]])
    for _ in range(2):
        biases(gathered(load, weight=40.0))
    assert biases.masters.tolist() == [[-0.25, *[0.25] * 5], [0.0] * 6]
    assert [weights_of(mixture)[1].tolist() for mixture in mixtures(decoder)] == biases.masters.tolist()


def uneven_after(settings: ExpertsTrainingSettings, steps: int = 120) -> float:
    """The highest load of an expert, times the experts, after training a decoder whose routers begin lopsided."""
    decoder = tiny_decoder(experts=replace(BIASED, balance_factor=0.0))
    for mixture in mixtures(decoder):
        weights_of(mixture)[0].data[:2].mul_(8.0)
    optimizer = Optimizer(decoder.train(), OptimizerSettings(name="adamw", learning_rate=3e-4))
    biases, highest = set_experts_training(decoder, settings, family="ndl"), 0.0
    source = RandomBatches(micro_batches=2, rows=4)
    for step in range(steps):
        found = gather(decoder, source.micro_batches(step), next_token, seed=0, step=step)
        optimizer.step(1.0, found.target_weight, optimizer.gradient_norm(found.target_weight))
        if biases is not None:
            biases(found)
        if step >= steps - 10:
            highest += 6 * float((found.figures["expert_load"] / found.target_weight).max()) / 10
    return highest


def test_moving_biases_even_the_load_out():
    assert uneven_after(asked(bias_rate=0.01)) < 1.6 < 2.0 < uneven_after(asked())


def test_gradients_reach_no_bias_and_biases_no_gradient():
    """A bias is no parameter: the optimizer has no slot for it, and a constant one changes no gradient."""
    plain, biased = tiny_decoder(experts=EXPERTS).train(), tiny_decoder(experts=BIASED).train()
    biases = set_experts_training(biased, asked(bias_rate=0.1), family="ndl")
    assert biases is not None
    biases.masters += 0.4
    biases._round()
    assert [name for name, _ in biased.named_parameters()] == [name for name, _ in plain.named_parameters()]
    batch = RandomBatches().micro_batches(0)[0]
    for decoder in (plain, biased):
        next_token(decoder, batch).minimised.backward()
    for left, right in zip(plain.parameters(), biased.parameters(), strict=True):
        assert left.grad is not None and right.grad is not None
        torch.testing.assert_close(left.grad, right.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_goes_on_to_the_bit(dtype):
    """Masters are float32; a model in bf16 holds them rounded, and steps too small for bf16 add up."""
    first = tiny_decoder(experts=BIASED, dtype=dtype)
    biases = set_experts_training(first, asked(bias_rate=0.001), family="ndl")
    assert biases is not None
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        biases(gathered(torch.rand(2, 6, generator=generator) + torch.arange(6) / 9))
    second = tiny_decoder(experts=BIASED, dtype=dtype)
    again = set_experts_training(second, asked(bias_rate=0.001), family="ndl")
    assert again is not None
    again.load_state({name: tensor.clone() for name, tensor in biases.state().items()}, 400)
    assert torch.equal(again.masters, biases.masters) and float(biases.masters[0].max()) > 0.2
    for left, right in zip(mixtures(first), mixtures(second), strict=True):
        ours, theirs = weights_of(left)[1], weights_of(right)[1]
        assert torch.equal(ours, theirs) and ours.dtype == dtype
    for wrong in ({}, {"expert_biases": torch.zeros(2, 5)}):
        with pytest.raises(CheckpointError, match="expert_biases is"):
            again.load_state(wrong, 1)


@pytest.mark.parametrize("family", ["ndl", "telechat2"])
def test_what_is_saved_chooses_as_what_was_trained(tmp_path, family):
    decoder = family_decoder(family)
    ids = torch.randint(30, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = decoder.eval()(ids)
    biases = set_experts_training(decoder, asked(bias_rate=0.5), family=family)
    assert isinstance(biases, SelectionBiases)
    with torch.no_grad():
        assert torch.equal(decoder(ids), before)
    biases(gathered(torch.rand(len(mixtures(decoder)), 6, generator=torch.Generator().manual_seed(2))))
    save_checkpoint(tmp_path / "saved", decoder, family=family)
    loaded = load_checkpoint(tmp_path / "saved")
    assert loaded.published["beichen_selection_bias"] is True and loaded.decoder.config == decoder.config
    with torch.no_grad():
        after = decoder(ids)
        assert torch.equal(loaded.decoder(ids), after) and not torch.equal(after, before)
    going_on = set_experts_training(loaded.decoder, asked(bias_rate=0.5), family=family)
    assert going_on is not None and torch.equal(going_on.masters, biases.masters)


def test_sigmoid_scores_are_saved_by_the_family_that_can_say_them(tmp_path):
    decoder = family_decoder("ndl", scoring="sigmoid")
    save_checkpoint(tmp_path / "saved", decoder, family="ndl")
    assert load_checkpoint(tmp_path / "saved").decoder.config == decoder.config
    with pytest.raises(ConfigError, match="no published keys for experts"):
        load_family("telechat2").from_decoder_config(family_decoder("telechat2", scoring="sigmoid").config)


@pytest.mark.parametrize(
    ("decoder", "settings", "message"),
    [
        (tiny_decoder(), {"z_loss_factor": 0.1}, "the model has no experts"),
        (tiny_decoder(experts=EXPERTS), {"device_groups": 4, "device_balance_factor": 0.1}, "6 experts do not divide"),
        (tiny_decoder(experts=EXPERTS).requires_grad_(False), {"bias_rate": 0.1}, "routers are frozen"),
    ],
)
def test_what_does_not_fit_is_refused(decoder, settings, message):
    with pytest.raises(SettingsError, match=message):
        set_experts_training(decoder, asked(**settings), family="ndl")
    assert set_experts_training(decoder, asked(), family="ndl") is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias_rate": -0.1}, "experts_training.bias_rate=-0.1"),
        ({"z_loss_factor": float("nan")}, "experts_training.z_loss_factor=nan"),
        ({"capacity_factor": -1.0}, "experts_training.capacity_factor=-1.0"),
        ({"device_groups": 1, "device_balance_factor": 0.1}, "device_groups=1"),
        ({"device_groups": 3}, "given together"),
        ({"device_balance_factor": 0.1}, "given together"),
    ],
)
def test_settings_that_no_run_can_have_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        asked(**settings)
