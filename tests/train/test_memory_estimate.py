"""The estimate counts weights, optimizer and gradients exactly, activations as they are kept, and every saving lowers the peak."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from beichen.config import read_settings
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.train.memory_estimate import MemoryEstimate, estimate_memory, planned_decoder
from beichen.train.optimizer_settings import OptimizerSettings
from beichen.train.optimizers import Optimizer
from beichen.train.settings import BatchSettings, TrainRecipe
from tests.checkpoints.folders import write_checkpoint
from tests.nn.test_recomputation import kept_bytes
from tests.train.small_runs import tiny_decoder

SIZES: dict[str, Any] = {"num_hidden_layers": 3, "hidden_size": 32, "head_dim": 8, "intermediate_size": 88, "max_position_embeddings": 64}
RECIPE = read_settings(
    TrainRecipe,
    {"out": "unused", "data": {"sequence_length": 64}, "batch": {"rows_per_step": 2, "rows_per_micro_batch": 2}, "budget": {"steps": 1}},
    name="recipe",
)


def estimate(dtype: torch.dtype = torch.float32, recipe: TrainRecipe = RECIPE, **sizes: Any) -> MemoryEstimate:
    with torch.device("meta"):
        decoder = Decoder(tiny_decoder(**{**SIZES, **sizes}).config).to(dtype)
    return estimate_memory(decoder, recipe, device=torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{}, {"name": "adamw"}, {"average_decay": 0.9}, {"name": "adamw", "master_weights": False}])
def test_weights_optimizer_and_gradients_are_those_of_the_run(dtype, settings):
    recipe = replace(RECIPE, optimizer=OptimizerSettings(**settings))
    found, decoder = estimate(dtype, recipe), tiny_decoder(dtype=dtype, **SIZES)
    state = Optimizer(decoder, recipe.optimizer).state()
    places = {tensor.data_ptr(): tensor.nbytes for tensor in (*decoder.parameters(), *state.values())}
    assert found.weights == found.gradients == sum(parameter.nbytes for parameter in decoder.parameters())
    assert found.weights + found.optimizer == sum(places.values())
    assert found.peak > found.weights + found.optimizer + found.gradients


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", ["nothing", "selective", "layer"])
@pytest.mark.parametrize(
    "experts", [None, ExpertsConfig(num_experts=3, num_experts_per_token=2, intermediate_size=24, first_dense_layers=1)]
)
def test_activations_are_what_a_batch_leaves(dtype, way, experts):
    """The batch of 2 x 64 positions has documents of other lengths than the probe's, and choices of experts fall otherwise: 15 %."""
    found = estimate(dtype, replace(RECIPE, recompute=way), experts=experts).activations
    assert found == pytest.approx(kept_bytes(tiny_decoder(dtype=dtype, experts=experts, **SIZES), way), rel=0.15)


def test_what_saves_memory_lowers_the_peak():
    deep: dict[str, Any] = {"num_hidden_layers": 12}
    whole = estimate(**deep).peak
    assert estimate(recipe=replace(RECIPE, recompute="selective"), **deep).peak < whole
    assert (
        estimate(recipe=replace(RECIPE, recompute="layer"), **deep).peak
        < estimate(recipe=replace(RECIPE, recompute="selective"), **deep).peak
    )
    assert estimate(recipe=replace(RECIPE, batch=BatchSettings(rows_per_step=2, rows_per_micro_batch=1)), **deep).peak < whole
    assert estimate(torch.bfloat16, **deep).peak < whole


@pytest.mark.parametrize("base", ["full", "int8", "nf4"])
def test_adapters_are_what_is_trained(tmp_path, base):
    folder = tmp_path / "base"
    write_checkpoint(folder)
    changes = {"model": {"start_from": str(folder)}, "lora": {"rank": 2, "base_format": base}, "data": {"sequence_length": 64}}
    recipe = read_settings(TrainRecipe, {"out": "unused", "budget": {"steps": 1}, **changes}, name="recipe")
    adapted = estimate_memory(planned_decoder(recipe, 40, torch.float32), recipe, device=torch.device("cpu"))
    whole_recipe = replace(recipe, lora=None)
    whole = estimate_memory(planned_decoder(whole_recipe, 40, torch.float32), whole_recipe, device=torch.device("cpu"))
    assert 0 < adapted.trained < adapted.parameters and adapted.gradients == 4 * adapted.trained
    assert adapted.optimizer < whole.optimizer and (adapted.weights > whole.weights) == (base == "full")
    assert "trained)" in adapted.as_text()


def test_it_says_so_in_a_line():
    text = estimate().as_text()
    assert text.startswith("memory: ") and "peak about" in text and "optimizer" in text
