"""The main job, from text to a model that talks: each stage is one call of the program's own areas.

In: ``QuickstartSettings``. Out: a run folder that ``beichen chat`` opens, with the same weights in Llama layout in ``llama/``, and
``Report``. A folder that already holds a run is refused.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from beichen.checkpoints.llama_export import beyond_llama, export_llama
from beichen.checkpoints.reading import CONFIG
from beichen.errors import BeichenError, StorageError
from beichen.inference.language_model import LanguageModel, load
from beichen.models.registry import load_family
from beichen.quickstart.examination import examine, sample_dialogues
from beichen.quickstart.material import Material, bundled_material, users_material
from beichen.quickstart.plan import BUNDLED_MINUTES, Plan, make_plan
from beichen.quickstart.recipes import fine_tuning_recipe, pretraining_recipe
from beichen.quickstart.report import Report, write_report
from beichen.train.result import TrainResult
from beichen.train.run import train
from beichen.train.run_folder import METRICS, SETTINGS
from beichen.train.settings import TrainRecipe
from beichen.util.device import choose_device, set_threads
from beichen.util.files import next_numbered_folder, prepare_folder
from beichen.util.machine import measure_matmul_peak
from beichen.util.memory import keep_freed_memory
from beichen.util.progress import SILENT, Reporter

PRETRAINING, FINE_TUNING, LLAMA, MATERIAL = "pretraining", "fine-tuning", "llama", "material"


@dataclass(frozen=True, kw_only=True)
class QuickstartSettings:
    """What the user may say; everything else is planned from what the machine is measured to do."""

    out: str | None = None  # default: runs/quickstart-NNN
    corpus: tuple[str, ...] = ()  # default: text that the package generates
    dialogues: tuple[str, ...] = ()
    minutes: float = BUNDLED_MINUTES  # of training, both stages together
    family: str = "telechat2"  # whose architecture is trained
    experts: int = 0  # routed experts of each mixture layer; 0 = ordinary feed-forwards
    seed: int = 0
    device: str | None = None
    dtype: Literal["float32", "bfloat16"] | None = None  # default: by the measured matmul
    threads: int | None = None


def quickstart(settings: QuickstartSettings, reporter: Reporter = SILENT) -> Report:
    """Run everything. Raises StorageError when ``out`` holds a run already, and the errors of the stages."""
    began = time.monotonic()
    load_family(settings.family, experts=settings.experts > 0)  # what does not go together is said before anything is made
    given = users_material(settings.corpus, settings.dialogues, reporter) if settings.corpus else None
    folder = _run_folder(settings.out)
    try:
        return _all_stages(settings, given, folder, reporter, began)
    except (BeichenError, KeyboardInterrupt):
        _withdraw(folder)
        raise


def _all_stages(settings: QuickstartSettings, given: Material | None, folder: Path, reporter: Reporter, began: float) -> Report:
    set_threads(settings.threads)
    keep_freed_memory()
    plan = _plan(settings, reporter)
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
        seconds=time.monotonic() - began, reporter=reporter,
    )  # fmt: skip


def _withdraw(folder: Path) -> None:
    """Before the first step of training there is nothing to keep: so the same command can be given again."""
    if not any(path.stat().st_size for path in folder.glob(f"*/{METRICS}")):
        shutil.rmtree(folder)


def _run_folder(out: str | None) -> Path:
    if out is None:
        return next_numbered_folder("runs/quickstart")
    folder = prepare_folder(out)
    if any(folder.iterdir()):
        raise StorageError(f"--out {folder}: holds a run, or other files", remedy=f"name a new folder{_way_on(folder)}")
    return folder


def _way_on(folder: Path) -> str:
    """What can be done with a folder that is not empty."""
    if (folder / CONFIG).exists():
        return f", talk with its model (`beichen chat {folder}`), or go on from it with model.start_from of `beichen train`"
    begun = [settings for stage in (FINE_TUNING, PRETRAINING) if (settings := folder / stage / SETTINGS).exists()]
    return f", or finish the stage that was stopped: `beichen train --config {begun[0]}`" if begun else ""


def _plan(settings: QuickstartSettings, reporter: Reporter) -> Plan:
    device = choose_device(settings.device)
    with reporter.track("measuring this machine", total=2, unit="formats") as task:
        peaks = {}
        for dtype in (torch.float32, torch.bfloat16):
            peaks[dtype] = measure_matmul_peak(dtype, sizes=(1024, 2048), device=device)
            task.advance()
    plan = make_plan(
        float32_peak=peaks[torch.float32], bfloat16_peak=peaks[torch.bfloat16], minutes=settings.minutes,
        dtype=settings.dtype, bundled=not settings.corpus, with_dialogues=bool(settings.dialogues) or not settings.corpus,
    )  # fmt: skip
    for reason in plan.reasons:
        reporter.line(f"plan: {reason}")
    return plan


def _stage(reporter: Reporter, plan: Plan, recipe: TrainRecipe) -> TrainResult:
    result = train(recipe, reporter, matmul_peak=plan.matmul_peak_gflops)
    if not result.finished:
        raise KeyboardInterrupt
    reporter.line(f"{result.folder.name}: {result.as_text()}")
    return result


def _publish(trained: Path, folder: Path, settings: QuickstartSettings, plan: Plan, reporter: Reporter) -> LanguageModel:
    """The trained model into the run's own folder, and beside it in Llama layout; read back as any user would."""
    trained_model = load(trained, device="cpu", dtype=plan.dtype)
    trained_model.save(folder)
    beyond = beyond_llama(trained_model.decoder.config)
    if beyond:
        reporter.line(f"no {LLAMA}/ beside it: Llama layout cannot say {', '.join(beyond)}")
    else:
        export_llama(folder, folder / LLAMA, reporter=reporter)
    return load(folder, device=settings.device, dtype=plan.dtype, reporter=reporter)
