"""The main job, from text to a model that talks: each stage is one call of the program's own areas.

In: ``QuickstartSettings``. Out: a run folder that ``beichen chat`` opens, with the same weights in Llama layout in ``llama/``, and
``Report``. A run that was stopped goes on where it was: what stands whole in its folder is kept (``begun.py`` says what it was begun with).
A folder that holds a finished run, or other files, is refused.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch

from beichen.checkpoints.llama_export import beyond_llama, export_llama
from beichen.checkpoints.reading import CONFIG
from beichen.errors import BeichenError, StorageError
from beichen.inference.language_model import LanguageModel, load
from beichen.models.registry import load_family
from beichen.quickstart.begun import Begun, read_begun
from beichen.quickstart.examination import examine, sample_dialogues
from beichen.quickstart.material import Material, bundled_material, users_material
from beichen.quickstart.plan import Plan, make_plan
from beichen.quickstart.recipes import fine_tuning_recipe, pretraining_recipe
from beichen.quickstart.report import Report, write_report
from beichen.quickstart.settings import QuickstartSettings
from beichen.train.result import TrainResult
from beichen.train.run import train
from beichen.train.run_folder import METRICS, RESULT
from beichen.train.settings import TrainRecipe
from beichen.util.device import choose_device, set_threads
from beichen.util.files import LOCK, FolderLock, next_numbered_folder, prepare_folder
from beichen.util.machine import measure_matmul_peak
from beichen.util.memory import keep_freed_memory
from beichen.util.progress import SILENT, Reporter

PRETRAINING, FINE_TUNING, LLAMA, MATERIAL = "pretraining", "fine-tuning", "llama", "material"


def quickstart(settings: QuickstartSettings, reporter: Reporter = SILENT) -> Report:
    """Run everything, or what a run that was stopped in ``out`` has not done yet. Raises StorageError when ``out`` holds a finished run or
    other files, SettingsError when the stopped run has other settings, and the errors of the stages."""
    started = time.monotonic()
    load_family(settings.family, experts=settings.experts > 0)  # what does not go together is said before anything is made
    begun = _under_way(settings)
    given = users_material(settings.corpus, settings.dialogues, reporter) if settings.corpus else None
    folder = _new_folder(settings.out) if begun is None else Path(begun.folder)
    with FolderLock(folder):
        try:
            set_threads(settings.threads)
            keep_freed_memory()
            if begun is None:
                begun = Begun(folder=str(folder), settings=settings, plan=_plan(settings, reporter))
                begun.save()
            else:
                reporter.line(f"going on with the run in {folder}")
            for reason in begun.plan.reasons:
                reporter.line(f"plan: {reason}")
            return _all_stages(settings, begun, given, reporter, started)
        except (BeichenError, KeyboardInterrupt) as end:
            kept = _leave(folder, reporter, time.monotonic() - started)
            if not kept and isinstance(end, KeyboardInterrupt):
                reporter.line("stopped before the first step of training: nothing is kept, the same command begins anew")
            raise


def _all_stages(settings: QuickstartSettings, begun: Begun, given: Material | None, reporter: Reporter, started: float) -> Report:
    folder, plan = Path(begun.folder), begun.plan
    material = given or bundled_material(folder / MATERIAL, plan, seed=settings.seed, reporter=reporter)
    pretrained = _stage(reporter, plan, pretraining_recipe(settings, plan, material, folder / PRETRAINING))
    final, tuned = pretrained.folder, None
    if material.dialogues:
        tuned = _stage(reporter, plan, fine_tuning_recipe(settings, plan, material, folder / FINE_TUNING, start_from=pretrained.folder))
        final = tuned.folder
    model = _publish(final, folder, settings, plan, reporter)
    marks = examine(model, material.examination, folder / "answers.jsonl", reporter) if material.examination else None
    samples = sample_dialogues(model, material.questions) if material.dialogues else ()
    return write_report(
        folder, plan=plan, material=material, pretrained=pretrained, tuned=tuned, marks=marks, samples=samples,
        seconds=begun.seconds + time.monotonic() - started, reporter=reporter,
    )  # fmt: skip


def _under_way(settings: QuickstartSettings) -> Begun | None:
    """The run that was stopped in ``out``, once it is known that it may go on with these settings."""
    if settings.out is None:
        return None
    folder = Path(settings.out)
    begun = read_begun(folder)
    if begun is not None:
        begun.check(folder, settings)
    return begun


def _leave(folder: Path, reporter: Reporter, seconds: float) -> bool:
    """Before the first step of training there is nothing to keep: so the same command can be given again. Later it is said how to go on.
    -> whether the folder is kept"""
    if not any(path.stat().st_size for path in folder.glob(f"*/{METRICS}")):
        shutil.rmtree(folder)
        return False
    begun = read_begun(folder)
    if begun is not None:
        replace(begun, seconds=begun.seconds + seconds).save()
        reporter.line(f"stopped; `beichen quickstart --out {folder}` goes on from there")
    return True


def _new_folder(out: str | None) -> Path:
    if out is None:
        return next_numbered_folder("runs/quickstart")
    folder = prepare_folder(out)
    if any(entry.name != LOCK for entry in folder.iterdir()):
        finished = f", talk with its model (`beichen chat {folder}`), or go on from it with model.start_from of `beichen train`"
        remedy = f"name a new folder{finished if (folder / CONFIG).exists() else ''}"
        raise StorageError(f"--out {folder}: holds a run, or other files", remedy=remedy)
    return folder


def _plan(settings: QuickstartSettings, reporter: Reporter) -> Plan:
    device = choose_device(settings.device)
    with reporter.track("measuring this machine", total=2, unit="formats") as task:
        peaks = {}
        for dtype in (torch.float32, torch.bfloat16):
            peaks[dtype] = measure_matmul_peak(dtype, sizes=(1024, 2048), device=device)
            task.advance()
    return make_plan(
        float32_peak=peaks[torch.float32], bfloat16_peak=peaks[torch.bfloat16], minutes=settings.minutes,
        dtype=settings.dtype, bundled=not settings.corpus, with_dialogues=bool(settings.dialogues) or not settings.corpus,
    )  # fmt: skip


def _stage(reporter: Reporter, plan: Plan, recipe: TrainRecipe) -> TrainResult:
    """One training, gone on with where it was begun; its result appears with its model, so one that has it is done."""
    if (Path(recipe.out) / RESULT).exists():
        done = TrainResult.read(Path(recipe.out))
        reporter.line(f"{done.folder.name}, done before: {done.as_text()}")
        return done
    result = train(recipe, reporter, matmul_peak=plan.matmul_peak_gflops)
    if not result.finished:
        raise KeyboardInterrupt
    reporter.line(f"{result.folder.name}: {result.as_text()}")
    return result


def _publish(trained: Path, folder: Path, settings: QuickstartSettings, plan: Plan, reporter: Reporter) -> LanguageModel:
    """The trained model into the run's own folder, and beside it in Llama layout, where they are not there yet; read back as any user
    would."""
    trained_model = load(trained, device="cpu", dtype=plan.dtype)
    if not (folder / CONFIG).exists():
        trained_model.save(folder)
    beyond = beyond_llama(trained_model.decoder.config)
    if beyond:
        reporter.line(f"no {LLAMA}/ beside it: Llama layout cannot say {', '.join(beyond)}")
    elif not (folder / LLAMA / CONFIG).exists():
        export_llama(folder, folder / LLAMA, reporter=reporter)
    return load(folder, device=settings.device, dtype=plan.dtype, reporter=reporter)
