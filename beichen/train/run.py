"""``train(recipe)``: one complete run, from files to a checkpoint in published layout; started again, it goes on where it was.

The folder ``out`` receives: settings.yaml, plan.json, metrics.jsonl, tokenizer/ and encoded/ (fresh runs), state/ while the run lasts,
and at the end config, weights and tokenizer of the model, and result.json.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.checkpoints.adapters import is_adapter
from beichen.checkpoints.saving import save_checkpoint
from beichen.config import parse_settings, read_settings, settings_as_dict, settings_as_yaml
from beichen.errors import SettingsError
from beichen.nn import kernels
from beichen.objectives.registry import objective
from beichen.text.tokenizer import Tokenizer
from beichen.train.evaluation import Evaluator
from beichen.train.expert_balancing import set_experts_training
from beichen.train.flops import training_flops_per_token
from beichen.train.held_out import HeldOut, evaluate_held_out
from beichen.train.loop import run_loop
from beichen.train.loop_state import LoopState
from beichen.train.material import read_material
from beichen.train.memory_estimate import MemoryEstimate, estimate_memory, planned_decoder
from beichen.train.metrics import MetricsLog
from beichen.train.optimizers import Optimizer
from beichen.train.plan import Plan
from beichen.train.precision import training_dtype
from beichen.train.preferences import begin_preferences, preferences_as_text
from beichen.train.preparation import Parts, prepare, prepare_tokenizer
from beichen.train.profiling import StepProfiler
from beichen.train.settings import TrainRecipe
from beichen.train.state_keeping import StateKeeper
from beichen.train.step_figures import StepFigures
from beichen.train.trackers import start_trackers
from beichen.util.device import choose_device, repeatable, set_threads
from beichen.util.files import FolderLock, check_free_space, prepare_folder, write_atomically
from beichen.util.memory import keep_freed_memory
from beichen.util.progress import SILENT, Reporter

SETTINGS, METRICS, RESULT, STATE, PLAN, BEST = "settings.yaml", "metrics.jsonl", "result.json", "state", "plan.json", "best"
EVALUATION_ROWS = 16
LABELS = {"documents": "pretraining", "dialogues": "fine-tuning", "preferences": "preference training"}  # of the kinds of data
# settings that a resumed run may give anew
FREE_TO_CHANGE = ("out", "budget", "checkpoint", "guards", "evaluation", "trackers", "profile", "threads", "device")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run reached; the same stands in result.json."""

    folder: Path
    finished: bool
    steps: int
    tokens: int
    seconds: float  # of training
    tokens_per_second: float
    loss: float  # mean of the last steps, nats per target
    held_out_loss: float | None  # nats per token
    bits_per_byte: float | None
    parameters: int
    bits_per_byte_by_source: dict[str, float | None]  # empty for a single source
    best_step: int | None  # of the lowest held-out loss among the evaluations on the way
    preference: dict[str, dict[str, float]] | None = None  # held-out figures before and after, see train/preferences.py

    def as_text(self) -> str:
        """One line for people."""
        speed = f"{self.steps} steps, {self.tokens:,} tokens in {self.seconds / 60:.1f} min ({self.tokens_per_second:,.0f} tokens/s)"
        if self.preference is not None:
            return f"{speed}, {preferences_as_text(self.preference)}"
        return speed if self.bits_per_byte is None else f"{speed}, held-out {self.bits_per_byte:.4f} bits per byte"

    def save(self, folder: Path) -> None:
        write_atomically(folder / RESULT, json.dumps(self.as_dict(), indent=1) + "\n")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"folder": str(self.folder)}


def train(
    recipe: TrainRecipe | Mapping[str, Any] | str | Path, reporter: Reporter = SILENT, *, matmul_peak: float | None = None
) -> TrainResult:
    """Run a recipe (settings, a mapping of them, or a YAML file) to the end of its budget, or until Ctrl-C.

    matmul_peak: GFLOP/s that this machine reaches in matrix products; the metrics then say which share of it each step reached.
    Raises SettingsError when ``out`` holds a finished run or one of other settings, and the errors of reading and saving.
    """
    recipe = _as_recipe(recipe)
    out = prepare_folder(recipe.out)
    with FolderLock(out):
        if not _continues(recipe, out):
            shutil.rmtree(out / "tokenizer", ignore_errors=True)  # made from other text, perhaps; encoded text checks itself
        write_atomically(out / SETTINGS, settings_as_yaml(recipe))
        with repeatable(choose_device(recipe.device)):
            return _run(recipe, out, reporter, matmul_peak)


def plan(recipe: TrainRecipe | Mapping[str, Any] | str | Path, reporter: Reporter = SILENT) -> Plan:
    """What the run of a recipe would read, and its learning rate; leaves nothing behind in ``out``."""
    return dry_run(recipe, reporter)[0]


def dry_run(recipe: TrainRecipe | Mapping[str, Any] | str | Path, reporter: Reporter = SILENT) -> tuple[Plan, MemoryEstimate]:
    """The plan of a recipe's run, and the memory that it will need; leaves nothing behind in ``out``."""
    recipe = _as_recipe(recipe)
    begun = _continues(recipe, Path(recipe.out))  # what it prepared is of these settings, and is used again
    device = choose_device(recipe.device)
    with tempfile.TemporaryDirectory() as folder:
        planned = recipe if begun else dataclasses.replace(recipe, out=folder)
        tokenizer = prepare_tokenizer(planned, reporter)
        material = read_material(planned, tokenizer, reporter)
        decoder = planned_decoder(planned, tokenizer.vocab_size, training_dtype(recipe.dtype, device))
        return material.plan, estimate_memory(decoder, planned, device=device)


def _as_recipe(given: TrainRecipe | Mapping[str, Any] | str | Path) -> TrainRecipe:
    if isinstance(given, TrainRecipe):
        return given
    if isinstance(given, (str, Path)):
        return parse_settings(TrainRecipe, (), [given])
    return read_settings(TrainRecipe, dict(given), name="recipe")


def _run(recipe: TrainRecipe, out: Path, reporter: Reporter, matmul_peak: float | None) -> TrainResult:
    device = choose_device(recipe.device)
    dtype = training_dtype(recipe.dtype, device)
    set_threads(recipe.threads)
    keep_freed_memory()
    if device.type == "cpu":
        reporter.line(f"kernels: {kernels.status().reason}")
    parts = prepare(recipe, device=device, dtype=dtype, reporter=reporter)
    decoder = parts.decoder
    parameters = sum(parameter.numel() for parameter in decoder.parameters())
    optimizer = Optimizer(decoder, recipe.optimizer, seed=recipe.seed)
    decoder.recompute = recipe.recompute
    biases = set_experts_training(decoder, recipe.experts_training, family=parts.family)
    moving = [] if biases is None else [biases]
    keeper = StateKeeper(out / STATE, [optimizer, *moving], recipe.checkpoint, reporter)
    preferences = begin_preferences(recipe, parts, out, begun=(out / STATE).exists(), reporter=reporter)  # of the weights as they are now
    state = keeper.restore() or LoopState()
    if state.step:
        reporter.line(f"resuming at step {state.step} ({state.tokens:,} tokens, {state.seconds / 60:.1f} min)")
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    size = f"{parameters:,} parameters"
    size += "" if parts.adaptation is None else f", {sum(parameter.numel() for parameter in trained):,} of them trained"
    reporter.line(f"{size}, {parts.family}, {str(dtype).removeprefix('torch.')} on {device}; {parts.material.account.as_text()}")
    stored = [*trained, *optimizer.state().values()]
    check_free_space(out, sum(tensor.numel() * tensor.element_size() for tensor in stored))
    planned = parts.material.plan
    if not planned.is_plain:
        reporter.line(planned.as_text())
    write_atomically(out / PLAN, json.dumps(planned.as_dict(), ensure_ascii=False, indent=1) + "\n")
    trackers = start_trackers(recipe.trackers, out, settings_as_dict(recipe), first_step=state.step)
    metrics = MetricsLog(out / METRICS, resume_step=state.step, reporter=reporter, trackers=trackers)
    learnt = objective("supervised" if recipe.data.kind == "dialogues" else "language_modelling")

    def save_model(folder: Path, *extra: Callable[[Path], object]) -> None:
        beside, generation = [parts.tokenizer.save, *extra], generation_defaults(parts.tokenizer)
        if parts.adaptation is not None:
            parts.adaptation.save(folder, decoder, write_extra=beside, generation=generation)
        else:
            save_checkpoint(
                folder, decoder, family=parts.family, token_ids=token_ids(parts.tokenizer), write_extra=beside, generation=generation,
                replace=True, reporter=reporter,
            )  # fmt: skip

    evaluator = Evaluator(
        recipe.evaluation, decoder, parts.tokenizer, held_out=lambda: _held_out(parts, reporter), chat=recipe.data.kind != "documents",
        keep_best=lambda: save_model(out / BEST), weights=optimizer.result, metrics=metrics, reporter=reporter,
    )  # fmt: skip
    figures = StepFigures(
        learning_rate=recipe.optimizer.peak_rate, steps_per_epoch=planned.stages.steps_per_epoch, matmul_peak=matmul_peak,
        flops_per_token=training_flops_per_token(decoder.config, recipe.data.longest_row, frozen=parts.adaptation is not None),
        tokens_per_byte=parts.material.tokens_per_byte,
    )  # fmt: skip
    try:
        ended = run_loop(
            decoder, planned.stages, learnt if preferences is None else preferences.objective, optimizer,
            state=state, budget=planned.budget, rate=planned.rate, guards=recipe.guards, keeper=keeper, figures=figures, metrics=metrics,
            reporter=reporter, label=LABELS[recipe.data.kind], seed=recipe.seed, after_step=moving, evaluate=evaluator,
            around_step=StepProfiler(out, *recipe.profile) if recipe.profile else nullcontext,
        )  # fmt: skip
    finally:
        metrics.close()
    with optimizer.result():
        by_source = _held_out(parts, reporter) if ended.finished else {}
        held_out = functools.reduce(operator.add, by_source.values()) if by_source else None
        result = TrainResult(
            folder=out, finished=ended.finished, steps=state.step, tokens=state.tokens, seconds=state.seconds,
            tokens_per_second=state.tokens / max(state.seconds, 1e-9), loss=ended.loss,
            held_out_loss=None if held_out is None else held_out.loss,
            bits_per_byte=None if held_out is None else held_out.bits_per_byte, parameters=parameters,
            bits_per_byte_by_source={} if len(by_source) < 2 else {name: scored.bits_per_byte for name, scored in by_source.items()},
            best_step=None if state.best_loss is None else state.best_step,
            preference=preferences.held_out(decoder, reporter) if preferences is not None and ended.finished else None,
        )  # fmt: skip
        if ended.finished:
            save_model(out, result.save)
            keeper.remove()
        else:
            reporter.line(f"stopped at step {state.step}; `beichen train --config {out / SETTINGS}` goes on from there")
    return result


def _held_out(parts: Parts, reporter: Reporter) -> dict[str, HeldOut]:
    """The held-out text of each source that has one."""
    sums: dict[str, HeldOut] = {}
    for name, rows in parts.material.held_out:
        scored = evaluate_held_out(
            parts.decoder, rows.batches(EVALUATION_ROWS), num_bytes=rows.num_bytes, total_batches=rows.num_batches(EVALUATION_ROWS),
            reporter=reporter,
        )  # fmt: skip
        sums[name] = sums[name] + scored if name in sums else scored
    return sums


def _continues(recipe: TrainRecipe, out: Path) -> bool:
    """Whether ``out`` holds a run of these settings that was begun. A finished run, or steps of one with others, is refused."""
    if (out / "config.json").exists() or is_adapter(out):
        raise SettingsError(f"out: {out} holds a finished run", remedy="give another folder, or go on from it with model.start_from")
    if not (out / SETTINGS).exists():
        return False
    before = settings_as_dict(parse_settings(TrainRecipe, (), [out / SETTINGS]))
    now = settings_as_dict(recipe)
    changed = [key for key in now if key not in FREE_TO_CHANGE and now[key] != before[key]]
    if changed and ((out / STATE).exists() or ((out / METRICS).exists() and (out / METRICS).stat().st_size)):
        raise SettingsError(
            f"out: {out} holds a run with other settings ({', '.join(changed)})", remedy="give another folder, or the settings of that run"
        )
    return not changed


def token_ids(tokenizer: Tokenizer) -> dict[str, int | list[int]]:
    """What config.json says of the control tokens."""
    ids: dict[str, int | list[int]] = {"eos_token_id": tokenizer.end_id, "pad_token_id": tokenizer.pad_id}
    return ids if tokenizer.start_id is None else {"bos_token_id": tokenizer.start_id, **ids}


def generation_defaults(tokenizer: Tokenizer) -> dict[str, Any]:
    """generation_config.json of a model that we trained: plain greedy decoding, ended by the end token."""
    return {"do_sample": False, "max_new_tokens": 256, **token_ids(tokenizer)}
