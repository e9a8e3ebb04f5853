"""The two recipes follow from the plan, are valid settings, and fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from beichen.config import parse_settings, settings_as_yaml
from beichen.models.registry import FAMILIES, load_family
from beichen.quickstart.material import Material
from beichen.quickstart.plan import make_plan
from beichen.quickstart.recipes import TOKENS_PER_STEP, fine_tuning_recipe, pretraining_recipe
from beichen.quickstart.settings import QuickstartSettings
from beichen.train.preparation import fresh_config
from beichen.train.settings import TrainRecipe

ASKED = QuickstartSettings(seed=7, device="cpu", threads=1)


def material(*, dialogues: bool = True) -> Material:
    return Material(
        corpus=("a.jsonl", "b.txt"), dialogues=("c.jsonl",) if dialogues else (), examination=(), questions=(), bundled=False
    )  # fmt: skip


def recipes(peak: float = 400.0, *, bundled: bool = True) -> tuple[TrainRecipe, TrainRecipe]:
    plan = make_plan(float32_peak=peak / 2, bfloat16_peak=peak, minutes=10.0, bundled=bundled, with_dialogues=True)
    first = pretraining_recipe(ASKED, plan, material(), Path("run/pretraining"))
    return first, fine_tuning_recipe(ASKED, plan, material(), Path("run/fine-tuning"), start_from=Path("run/pretraining"))


def pretraining_alone() -> TrainRecipe:
    plan = make_plan(float32_peak=200.0, bfloat16_peak=400.0, minutes=10.0, bundled=False, with_dialogues=False)
    return pretraining_recipe(ASKED, plan, material(dialogues=False), Path("run/pretraining"))


@pytest.mark.parametrize("bundled", [True, False])
def test_both_stages_carry_on_what_was_asked_and_planned(bundled):
    for recipe in recipes(bundled=bundled):
        assert (recipe.seed, recipe.device, recipe.threads, recipe.dtype) == (7, "cpu", 1, "bfloat16")
        assert recipe.batch.rows_per_step * recipe.data.sequence_length == TOKENS_PER_STEP


def test_the_second_stage_goes_on_from_the_first():
    first, second = recipes()
    assert second.model.start_from == first.out and second.data.sequence_length == first.data.sequence_length
    assert (first.data.kind, second.data.kind) == ("documents", "dialogues")
    assert (first.data.files, second.data.files) == (("a.jsonl", "b.txt"), ("c.jsonl",))
    minutes = [recipe.budget.minutes for recipe in (first, second)]
    assert None not in minutes and sum(filter(None, minutes)) == pytest.approx(10.0)


def test_a_rate_that_something_follows_does_not_end_at_zero():
    """Fine-tuning warms up again from what pretraining left; a run that ends there falls to zero."""
    assert recipes()[0].schedule.final > 0 == recipes()[1].schedule.final
    alone = pretraining_alone()
    assert alone.schedule.final == 0 and alone.budget.minutes == 10.0


def test_a_slow_machine_gets_a_smaller_model():
    sizes = [recipes(peak)[0].model.hidden_size for peak in (400.0, 100.0, 20.0)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("peak", [400.0, 100.0, 20.0])
def test_every_family_trains_in_every_size_and_where_it_can_with_experts(family, peak):
    plan = make_plan(float32_peak=peak / 2, bfloat16_peak=peak, minutes=10.0, bundled=True, with_dialogues=True)
    for experts in (0, 2, 7) if load_family(family).has_experts else (0,):
        asked = QuickstartSettings(family=family, experts=experts)
        config = fresh_config(pretraining_recipe(asked, plan, material(), Path("run")), plan.vocab_size)
        assert experts == (0 if config.experts is None else config.experts.num_experts)


def test_stored_settings_are_the_recipe(tmp_path):
    for number, recipe in enumerate((*recipes(), pretraining_alone())):
        path = tmp_path / f"{number}.yaml"
        path.write_text(settings_as_yaml(recipe), encoding="utf-8")
        assert parse_settings(TrainRecipe, (), [path]) == recipe
