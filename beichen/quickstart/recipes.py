"""The two training recipes of the main job, as they follow from the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from beichen.nn.config import ExpertsConfig
from beichen.quickstart.material import Material
from beichen.quickstart.plan import Plan
from beichen.train.settings import (
    BatchSettings,
    BudgetSettings,
    DataSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
    TokenizerSettings,
    TrainRecipe,
)  # fmt: skip

TEMPLATE = "telechat2-bare"  # TeleChat2's format without its default system text, which is longer than most of our dialogues
TOKENS_PER_STEP = 8192


class _Asked(Protocol):
    """The part of the user's settings that the recipes carry on."""

    @property
    def seed(self) -> int: ...
    @property
    def family(self) -> str: ...
    @property
    def experts(self) -> int: ...
    @property
    def device(self) -> str | None: ...
    @property
    def threads(self) -> int | None: ...


def _batch(plan: Plan) -> BatchSettings:
    rows = max(1, TOKENS_PER_STEP // plan.sequence_length)
    return BatchSettings(rows_per_step=rows, rows_per_micro_batch=rows)


def _experts(number: int, intermediate_size: int) -> ExpertsConfig | None:
    """Mixtures in which each token meets as many channels as in a feed-forward of this size."""
    if not number:
        return None
    return ExpertsConfig(
        num_experts=number, num_experts_per_token=2, intermediate_size=intermediate_size // 2, normalize_top_k=True, balance_factor=0.01
    )


def pretraining_recipe(asked: _Asked, plan: Plan, material: Material, out: Path) -> TrainRecipe:
    """From nothing: tokenizer and a fresh decoder on the corpus."""
    size = plan.size
    return TrainRecipe(
        out=str(out), seed=asked.seed, device=asked.device, threads=asked.threads, dtype=plan.dtype,
        model=ModelSettings(
            family=asked.family, experts=_experts(asked.experts, size.intermediate_size),
            hidden_size=size.hidden_size, num_hidden_layers=size.num_hidden_layers,
            num_attention_heads=size.num_attention_heads, intermediate_size=size.intermediate_size,
        ),
        tokenizer=TokenizerSettings(vocab_size=plan.vocab_size, template=TEMPLATE),
        data=DataSettings(files=material.corpus, sequence_length=plan.sequence_length, held_out_fraction=0.05),
        batch=_batch(plan),
        optimizer=OptimizerSettings(matrix_learning_rate=0.01, head_learning_rate=0.01, embedding_learning_rate=0.02),
        schedule=ScheduleSettings(name="stable", decay=0.3 if material.dialogues else 0.6, final=0.3 if material.dialogues else 0.0),
        budget=BudgetSettings(minutes=plan.pretraining_minutes),
    )  # fmt: skip


def fine_tuning_recipe(asked: _Asked, plan: Plan, material: Material, out: Path, *, start_from: Path) -> TrainRecipe:
    """From the pretrained checkpoint: the dialogues, answers scored."""
    return TrainRecipe(
        out=str(out), seed=asked.seed, device=asked.device, threads=asked.threads, dtype=plan.dtype,
        model=ModelSettings(start_from=str(start_from)),
        data=DataSettings(files=material.dialogues, kind="dialogues", sequence_length=plan.sequence_length, held_out_fraction=0.0),
        batch=_batch(plan),
        optimizer=OptimizerSettings(matrix_learning_rate=0.01),
        schedule=ScheduleSettings(name="stable", decay=0.7),
        budget=BudgetSettings(minutes=plan.fine_tuning_minutes),
    )  # fmt: skip
