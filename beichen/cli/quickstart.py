"""examples:
beichen quickstart
beichen quickstart --corpus novels.jsonl --dialogues chats.jsonl --minutes 5
beichen quickstart --out runs/quickstart-001     # goes on with the run that was stopped there, by its own settings
A run that Ctrl-C stops before the first step of training leaves nothing behind: the same command begins anew.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json

if TYPE_CHECKING:
    from beichen.quickstart.settings import QuickstartSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is not given is not among the arguments: a run that goes on has its own settings then."""

    def add(name: str, **options: Any) -> None:
        parser.add_argument(name, default=argparse.SUPPRESS, **options)

    add("--out", metavar="DIR", help="folder of the run: new, empty, or of a run that was stopped; default: runs/quickstart-NNN")
    add("--corpus", nargs="+", metavar="FILE", help="your own text: jsonl, json, txt or parquet, also .gz and .zst")
    add("--dialogues", nargs="+", metavar="FILE", help="your own dialogues, with --corpus: jsonl, json or parquet")
    add("--minutes", type=float, metavar="N", help="training time, both stages together; default: 10.4")
    add("--family", metavar="NAME", help="whose architecture is trained: see `beichen models`; default: telechat2")
    add("--experts", type=int, metavar="N", help="N routed experts in place of each feed-forward; default: none")
    add("--seed", type=int, help="everything random follows from it; default: 0")
    add("--device", metavar="NAME", help="cpu, cuda, npu, ...; default: the fastest that this machine has")
    add("--dtype", choices=("float32", "bfloat16"), help="number format; default: the one whose matmul is faster here")
    add("--threads", type=int, metavar="N", help="CPU threads; default: one per core that this process may use")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from beichen.quickstart.run import quickstart

    report = quickstart(_settings(vars(arguments)), make_reporter())
    if arguments.json:
        print_json(report.figures)
    else:
        print(report.text)
    return 0


def _settings(given: dict[str, Any]) -> QuickstartSettings:
    """What is given; the rest as the run has it that was stopped in ``--out``, or by default."""
    from beichen.errors import SettingsError
    from beichen.quickstart.begun import read_begun
    from beichen.quickstart.settings import QuickstartSettings

    begun = read_begun(Path(given["out"])) if "out" in given else None
    said = {field.name: given[field.name] for field in fields(QuickstartSettings) if field.name in given}
    said |= {name: tuple(files) for name, files in said.items() if isinstance(files, list)}
    settings = replace(QuickstartSettings() if begun is None else begun.settings, **said)
    if settings.dialogues and not settings.corpus:
        raise SettingsError("--dialogues: comes without --corpus", remedy="give the text to pretrain on with --corpus")
    if not 0 < settings.minutes < math.inf:
        raise SettingsError(
            f"--minutes {settings.minutes:g}: must be above 0 and finite", remedy="the default is 10.4, for the own text 3 to 30"
        )
    if settings.experts < 0 or settings.experts == 1:
        raise SettingsError(f"--experts {settings.experts}: must be 0, or at least 2")
    return settings
