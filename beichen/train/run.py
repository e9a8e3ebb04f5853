"""``train(recipe)``: one complete run, from files to a checkpoint in published layout; started again, it goes on where it was.

What the folder ``out`` receives stands in ``run_folder``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from beichen.config import parse_settings, read_settings, settings_as_dict, settings_as_yaml
from beichen.nn import kernels
from beichen.nn.attention_backends import Circumstances, explain, require
from beichen.nn.decoder import Decoder
from beichen.nn.places import BackendName
from beichen.train.evaluation import Evaluator
from beichen.train.expert_balancing import set_experts_training
from beichen.train.flops import training_flops_per_token
from beichen.train.held_out import HeldOut, evaluate_held_out
from beichen.train.learning import begin_learning
from beichen.train.loop import Course, Hooks, Recording, run_loop
from beichen.train.loop_state import LoopState
from beichen.train.material import read_material
from beichen.train.memory_estimate import MemoryEstimate, estimate_memory, planned_decoder
from beichen.train.metrics import MetricsLog
from beichen.train.optimizers import Optimizer
from beichen.train.plan import Plan
from beichen.train.precision import training_dtype
from beichen.train.preparation import Parts, prepare, prepare_tokenizer
from beichen.train.profiling import StepProfiler
from beichen.train.publishing import save_model
from beichen.train.result import TrainResult
from beichen.train.run_folder import BEST, METRICS, PLAN, SETTINGS, STATE, FalseStart, continues
from beichen.train.settings import TrainRecipe
from beichen.train.state_keeping import StateKeeper
from beichen.train.step_figures import StepFigures
from beichen.train.trackers import start_trackers
from beichen.util.device import choose_device, repeatable, set_threads
from beichen.util.files import FolderLock, check_free_space, prepare_folder, write_atomically
from beichen.util.memory import keep_freed_memory
from beichen.util.progress import SILENT, Reporter

EVALUATION_ROWS = 16


def train(
    recipe: TrainRecipe | Mapping[str, Any] | str | Path, reporter: Reporter = SILENT, *, matmul_peak: float | None = None
) -> TrainResult:
    """Run a recipe (settings, a mapping of them, or a YAML file) to the end of its budget, or until Ctrl-C.

    matmul_peak: GFLOP/s that this machine reaches in matrix products; the metrics then say which share of it each step reached.
    Raises SettingsError when ``out`` holds a finished run or one of other settings, and the errors of reading and saving.
    """
    recipe = _as_recipe(recipe)
    start = FalseStart(Path(recipe.out))
    out = prepare_folder(recipe.out)
    with FolderLock(out), start:
        if not continues(recipe, out):
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
    continues(recipe, Path(recipe.out))  # a folder that the run itself would refuse is refused now
    device = choose_device(recipe.device)
    with tempfile.TemporaryDirectory() as folder:  # a run that is under way is not disturbed
        planned = dataclasses.replace(recipe, out=folder)
        tokenizer = prepare_tokenizer(planned, reporter)
        material = read_material(planned, tokenizer, reporter)
        decoder = planned_decoder(planned, tokenizer.vocab_size, training_dtype(recipe.dtype, device))
        _use_attention(decoder, recipe.attention, device, reporter)
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
    _use_attention(decoder, recipe.attention, device, reporter)
    biases = set_experts_training(decoder, recipe.experts_training, family=parts.family)
    moving = [] if biases is None else [biases]
    base = None if parts.adaptation is None else parts.adaptation.base
    keeper = StateKeeper(out / STATE, [optimizer, *moving], recipe.checkpoint, reporter, base=base)
    learning = begin_learning(recipe, parts, out, begun=(out / STATE).exists(), reporter=reporter)  # of the weights as they are now
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
    figures = StepFigures(
        learning_rate=recipe.optimizer.peak_rate, steps_per_epoch=planned.stages.steps_per_epoch, matmul_peak=matmul_peak,
        flops_per_token=training_flops_per_token(decoder.config, recipe.data.longest_row, frozen=parts.adaptation is not None),
        tokens_per_byte=parts.material.tokens_per_byte,
    )  # fmt: skip
    with MetricsLog(out / METRICS, resume_step=state.step, reporter=reporter, trackers=trackers) as metrics:
        evaluator = Evaluator(
            recipe.evaluation, decoder, parts.tokenizer, held_out=lambda: _held_out(parts, reporter), chat=not recipe.training.running_text,
            keep_best=lambda: save_model(out / BEST, parts, reporter=reporter), weights=optimizer.result, metrics=metrics,
            reporter=reporter,
        )  # fmt: skip
        ended = run_loop(
            decoder, planned.stages, learning.objective, optimizer, state=state, keeper=keeper,
            course=Course(budget=planned.budget, rate=planned.rate, guards=recipe.guards, seed=recipe.seed),
            recording=Recording(figures=figures, metrics=metrics, reporter=reporter, label=recipe.training.label),
            hooks=Hooks(
                after_step=moving, evaluate=evaluator, around_step=StepProfiler(out, *recipe.profile) if recipe.profile else nullcontext
            ),
        )  # fmt: skip
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
                preference=learning.held_out(decoder, reporter) if ended.finished else None,
            )  # fmt: skip
            if ended.finished:
                save_model(out, parts, result.save, reporter=reporter)
                keeper.remove()
    return result


def _use_attention(decoder: Decoder, wanted: BackendName, device: torch.device, reporter: Reporter) -> None:
    """Compute attention in the wanted way, and say which it is. Raises SettingsError where it cannot run."""
    given = Circumstances(device=device, dtype=decoder.dtype, dropout=decoder.config.attention_dropout)
    require(wanted, given)
    decoder.attention_backend = wanted
    reporter.line(f"attention: {explain(wanted, given)}")


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
