"""A training recipe: every setting of one run, frozen, checked once, printed at the start and stored beside the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from beichen.data.dialogue_settings import DialogueSettings
from beichen.errors import SettingsError
from beichen.nn.config import ExpertsConfig
from beichen.nn.places import BackendName
from beichen.nn.recomputation import Recompute
from beichen.objectives.preference_settings import PreferenceSettings
from beichen.train.adapter_settings import AdapterSettings
from beichen.train.evaluation_settings import EvaluationSettings
from beichen.train.experts_settings import ExpertsTrainingSettings
from beichen.train.guards import GuardSettings
from beichen.train.kinds import KINDS, TrainingKind
from beichen.train.optimizer_settings import OptimizerSettings, ScheduleSettings
from beichen.train.source_settings import PhaseSettings, SourceSettings, check_sources
from beichen.train.trackers import check_names


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What is trained: a checkpoint folder, or a fresh decoder of these sizes.

    start_from: folder of a checkpoint to go on from; the sizes below then come from it and its tokenizer is used.
    context_length: with start_from, the length that it is trained for from here on, longer than before; data.sequence_length says how long
    rows are.
    compatibility: faults of the family's original code to compute with, by name (docs/models.md).
    """

    start_from: str | None = None
    context_length: int | None = None
    compatibility: tuple[str, ...] = ()
    family: str = "telechat2"
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    intermediate_size: int = 704
    tie_word_embeddings: bool = False
    experts: ExpertsConfig | None = None  # a mixture in place of (most) feed-forwards; families without one refuse it

    def __post_init__(self) -> None:
        if self.context_length is not None and self.start_from is None:
            raise SettingsError("model.context_length: a fresh model is trained for the longest row; give data.sequence_length")
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"):
            size = getattr(self, key)
            if size is not None and size < 1:
                raise SettingsError(f"model.{key}={size}: must be at least 1")
        if self.hidden_size % self.num_attention_heads:
            raise SettingsError(
                f"model.hidden_size={self.hidden_size} is not a multiple of model.num_attention_heads={self.num_attention_heads}"
            )


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """Which tokenizer: a folder that holds one, or one trained on the run's own text."""

    path: str | None = None
    vocab_size: int = 8192
    pattern: str = "han"
    template: str = "telechat2"


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is read, and how it is laid into rows.

    files: what is read, as one source of weight 1; in its place may stand sources, sources_file or encoded.
    sources_file: a JSON object {"path": weight}, as TeleChat writes it and as `beichen data encode --sources` reads it.
    encoded: a folder that `beichen data encode` wrote, with its sources, weights, grades and held-out documents.
    weigh_by: a weight counts ``epochs`` (2.0 takes each document twice, 0.5 a random half) or ``shares`` of the tokens.
    phases: a curriculum, in order; empty: one mixture throughout.
    kind: ``documents`` (language modelling), ``dialogues`` (supervised fine-tuning) or ``preferences`` (see ``preference``).
    held_out_fraction: share of documents, chosen by the hash of their text, that is only evaluated.
    isolate_documents: tokens see their own document (or dialogue) only, and positions begin anew with each.
    dialogues: which answers are learnt, and what happens to records and lengths that do not fit.
    """

    files: tuple[str, ...] = ()
    sources: tuple[SourceSettings, ...] = ()
    sources_file: str | None = None
    encoded: str | None = None
    weigh_by: Literal["epochs", "shares"] = "epochs"
    phases: tuple[PhaseSettings, ...] = ()
    kind: Literal["documents", "dialogues", "preferences"] = "documents"
    sequence_length: int = 512
    held_out_fraction: float = 0.05
    on_bad: Literal["raise", "count"] = "raise"  # records that cannot be read: stop, or leave them out and count them
    isolate_documents: bool = True
    dialogues: DialogueSettings = field(default_factory=DialogueSettings)

    def __post_init__(self) -> None:
        if self.sequence_length < 2:
            raise SettingsError(f"data.sequence_length={self.sequence_length}: must be at least 2 tokens")
        if not 0.0 <= self.held_out_fraction < 1.0:
            raise SettingsError(f"data.held_out_fraction={self.held_out_fraction}: must be at least 0 and below 1")
        if sum(map(bool, (self.files, self.sources, self.sources_file, self.encoded))) > 1:
            raise SettingsError("data.files: give one of files, sources, sources_file and encoded")
        kind = KINDS[self.kind]
        if self.encoded and not kind.running_text:
            raise SettingsError(f"data.encoded: holds text, not {self.kind}")
        if self.phases and not kind.running_text:
            raise SettingsError(f"data.phases: {self.kind} have none; train them in several runs, each from the one before")
        if kind.against_reference and not self.isolate_documents:
            raise SettingsError(f"data.isolate_documents: answers are judged by themselves, so {self.kind} are always isolated")
        check_sources(self.sources, self.phases, all_named=not (self.sources_file or self.encoded))

    @property
    def longest_row(self) -> int:
        """The row length of the phase with the longest rows."""
        return max([phase.sequence_length or self.sequence_length for phase in self.phases] or [self.sequence_length])


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """How many rows make an optimizer step, and how many of them run at once."""

    rows_per_step: int = 16
    rows_per_micro_batch: int = 16

    def __post_init__(self) -> None:
        if min(self.rows_per_step, self.rows_per_micro_batch) < 1:
            raise SettingsError(f"batch: {self.rows_per_step} rows a step, {self.rows_per_micro_batch} a micro-batch: must be at least 1")
        if self.rows_per_step % self.rows_per_micro_batch:
            raise SettingsError(
                f"batch.rows_per_step={self.rows_per_step} is not a multiple of batch.rows_per_micro_batch={self.rows_per_micro_batch}"
            )


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """When the run ends: the first of these that is reached, or the end of the last of data.phases.

    Minutes count training, not preparation or evaluation.
    """

    steps: int | None = None
    minutes: float | None = None
    epochs: float | None = None
    tokens: int | None = None  # positions that ran through the decoder, padding excluded
    samples: int | None = None  # exactly so many rows, walking the weighted sources over and over

    def __post_init__(self) -> None:
        if any(value <= 0 for value in self.given):
            raise SettingsError("budget: steps, minutes, epochs, tokens and samples must be above 0")

    @property
    def given(self) -> list[float]:
        return [value for value in (self.steps, self.minutes, self.epochs, self.tokens, self.samples) if value is not None]


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Training state on disk: how often, and how many are kept. Ctrl-C always saves.

    keep: the newest so many. keep_every: also those whose step is a multiple of it, for good.
    """

    every_minutes: float = 10.0
    every_steps: int | None = None  # besides
    keep: int = 2
    keep_every: int | None = None

    def __post_init__(self) -> None:
        if self.every_minutes <= 0:
            raise SettingsError(f"checkpoint.every_minutes={self.every_minutes:g}: must be above 0")
        for key in ("every_steps", "keep_every"):
            if (steps := getattr(self, key)) is not None and steps < 1:
                raise SettingsError(f"checkpoint.{key}={steps}: must be at least 1")
        if self.keep < 1:
            raise SettingsError(f"checkpoint.keep={self.keep}: at least the newest state is kept")


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """One complete run. ``out`` receives the checkpoint in published layout, the state, metrics and settings."""

    out: str
    model: ModelSettings = field(default_factory=ModelSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    data: DataSettings = field(default_factory=DataSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    experts_training: ExpertsTrainingSettings = field(default_factory=ExpertsTrainingSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    guards: GuardSettings = field(default_factory=GuardSettings)
    lora: AdapterSettings | None = None
    preference: PreferenceSettings = field(default_factory=PreferenceSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    trackers: tuple[str, ...] = ("tensorboard",)  # where the figures go besides metrics.jsonl: tensorboard, wandb, swanlab
    profile: tuple[int, int] | None = None  # the first and the last step whose operations are timed, into profile/
    seed: int = 0
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None  # of the computation; float16 on accelerators only
    recompute: Recompute = "nothing"  # in the backward pass, to save memory (docs/training.md)
    attention: BackendName = "auto"  # the way of computing it (docs/training.md)
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.lora is not None and self.model.start_from is None:
            raise SettingsError("lora: adapters need a base; name its folder in model.start_from")
        check_names(self.trackers)
        if self.profile is not None and not 1 <= self.profile[0] <= self.profile[1]:
            raise SettingsError(f"profile={list(self.profile)}: give the first and the last step, from 1")
        if not self.budget.given and not self.data.phases:
            raise SettingsError("budget: give steps, minutes, epochs, tokens or samples")
        if self.training.against_reference and self.model.start_from is None:
            raise SettingsError(f"model.start_from: {self.data.kind} need a model that answers already; it is also the reference")
        if self.preference != PreferenceSettings() and not self.training.against_reference:
            raise SettingsError("preference: set, but data.kind is not preferences", remedy="set data.kind: preferences")
        if self.budget.samples is not None and self.data.phases:
            raise SettingsError("budget: samples and data.phases both say how many rows are read; give one of them")

    @property
    def training(self) -> TrainingKind:
        """What follows from ``data.kind``."""
        return KINDS[self.data.kind]
