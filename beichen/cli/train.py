"""example: beichen train --config recipes/telechat2/tiny_pretraining.yaml --budget.minutes 2"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json

if TYPE_CHECKING:
    from beichen.train.settings import TrainRecipe


def settings_class() -> type:
    from beichen.train.settings import TrainRecipe

    return TrainRecipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="encode the text and show what is read, how often, with which factor of the learning rates and in how much memory",
    )
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from beichen.config import settings_as_yaml
    from beichen.train.run import dry_run, train
    from beichen.train.run_folder import SETTINGS

    reporter = make_reporter()
    reporter.line(settings_as_yaml(arguments.settings).rstrip())
    if arguments.dry_run:
        planned, memory = dry_run(arguments.settings, reporter)
        if arguments.json:
            print_json({**planned.as_dict(), "memory": asdict(memory)})
        else:
            print(planned.as_text())
            print(memory.as_text())
        return 0
    result = train(arguments.settings, reporter, matmul_peak=_matmul_peak(arguments.settings))
    _draw_rates(result.folder)
    if not result.finished:
        reporter.line(f"stopped at step {result.steps}; `beichen train --config {result.folder / SETTINGS}` goes on from there")
    if arguments.json:
        print_json(result)
        return 0 if result.finished else 130
    print(result.as_text())
    print(result.folder)
    return 0 if result.finished else 130


def _matmul_peak(recipe: TrainRecipe) -> float:
    """GFLOP/s of matrix products in the run's number format on its device."""
    from beichen.train.precision import training_dtype
    from beichen.util.device import choose_device, set_threads
    from beichen.util.machine import measure_matmul_peak

    device = choose_device(recipe.device)
    set_threads(recipe.threads)
    return measure_matmul_peak(training_dtype(recipe.dtype, device), device=device)


def _draw_rates(folder: Path) -> None:
    """learning_rate.png, where the run has phases and their course is known."""
    from beichen.evaluation.fonts import stand_ins
    from beichen.evaluation.plots import plot_curves
    from beichen.train.run_folder import PLAN

    planned = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    begins, done = {}, 0
    for stretch in planned["stretches"]:
        begins[stretch["phase"]] = float(done)
        done += stretch["positions"] or 0
    labels = stand_ins(begins, "phase")
    if len(begins) > 1 and planned["rates"]:
        tokens, factors = zip(*planned["rates"], strict=True)
        plot_curves(
            folder / "learning_rate.png", {"rate": (tokens, factors)}, title="Learning rate over the phases", x_label="tokens",
            y_label="factor of the optimizer's rates", marks={labels[name]: place for name, place in begins.items()},
        )  # fmt: skip
