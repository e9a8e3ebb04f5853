"""Training runs as one HTML page that needs nothing else: differences of settings on top, curves, answers, faulty steps.

beichen report runs/first runs/second --out compared.html
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.cli.outputs import drawn_file
from beichen.errors import SettingsError

if TYPE_CHECKING:
    from beichen.evaluation.run_report import RunFigures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of training runs, finished or not")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the first run's folder)")


def run(arguments: argparse.Namespace) -> int:
    """Write the page, print its path."""
    from beichen.evaluation.run_report import report_page
    from beichen.util.files import write_atomically

    if len(set(map(_name, arguments.runs))) < len(arguments.runs):
        raise SettingsError("two of the runs have the same name", remedy="name each folder once")
    runs = [read_run(folder) for folder in arguments.runs]
    out = drawn_file(arguments.out or arguments.runs[0] / "report.html")
    write_atomically(out, report_page(runs))
    print(out)
    return 0


def read_run(folder: Path) -> RunFigures:
    """What a run has written so far. Raises SettingsError where there is none."""
    import json

    import yaml

    from beichen.evaluation.run_report import RunFigures
    from beichen.train.metrics import read_metrics
    from beichen.train.run_folder import METRICS, RESULT, SETTINGS

    if not (folder / METRICS).exists():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{METRICS}")) if folder.is_dir() else []
        raise SettingsError(
            f"{folder}: holds no {METRICS}, so it is no training run",
            remedy=f"name one of the runs in it: {', '.join(inside)}" if inside else "name a folder that `beichen train` wrote",
        )
    settings = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8")) if (folder / SETTINGS).exists() else {}
    result = json.loads((folder / RESULT).read_text(encoding="utf-8")) if (folder / RESULT).exists() else None
    return RunFigures(name=_name(folder), settings=flat(settings), records=read_metrics(folder / METRICS), result=result)


def _name(folder: Path) -> str:
    """The last two parts of the path: runs of the main job are all called by their stage."""
    return "/".join(folder.resolve().parts[-2:])


def flat(table: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found
