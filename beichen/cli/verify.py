"""Compares our numbers with golden folders: tiny checkpoints that carry the logits, losses, gradients and tokens of the original code.

One line per folder; the exit code is 1 when a difference is beyond its tolerance or a folder cannot be loaded.

  beichen verify --golden tests/golden
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.options import add_json_option
from beichen.cli.terminal import print_json
from beichen.errors import CheckpointError

if TYPE_CHECKING:
    from beichen.checkpoints.parity import CaseResult, Comparison

COLUMNS = {  # heading -> the keys that it sums up
    "logits": ("logits", "logits_float32", "hidden_last"),
    "loss": ("loss",),
    "grads": ("grad.",),
    "long": ("logits_long",),
    "rope": ("rope.",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR", help="folder to walk for golden.json files")
    parser.add_argument("--verbose", action="store_true", help="a line for every key of every case")
    parser.add_argument("--device", help="where to compute (default: cpu, on which the goldens were made)")
    parser.add_argument("--threads", type=int, help="threads to compute with (default: torch's own choice)")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify every golden folder; 0 when nothing failed."""
    from dataclasses import asdict

    from beichen.checkpoints.parity import golden_folders, verify_folder
    from beichen.util.device import choose_device, set_threads

    root: Path = arguments.golden
    folders = golden_folders(root) if root.is_dir() else []
    if not folders:
        raise CheckpointError(f"{root}: no golden.json in it or below", remedy="give the folder that holds the golden cases")
    if arguments.threads:
        set_threads(arguments.threads)
    device = choose_device(arguments.device or "cpu")
    results = []
    width = max(len(_name(folder, root)) for folder in folders)
    for folder in folders:
        result = verify_folder(folder, device=device)
        results.append(result)
        if not arguments.json:
            print(f"{_name(folder, root):<{width}}  {_line(result)}", flush=True)
            for one in result.comparisons:
                if arguments.verbose or one.verdict == "fail":
                    print(f"    {_detail(one)}", flush=True)
    failed = [result for result in results if result.failed]
    skipped = [result for result in results if result.skipped]
    if arguments.json:
        cases = [asdict(result) | {"failed": result.failed} for result in results]
        print_json({"cases": cases, "failed": len(failed), "skipped": len(skipped)})
    else:
        passed = len(results) - len(failed) - len(skipped)
        print(f"{len(results)} cases: {passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


def _name(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root)) if folder != root else folder.name


def _line(result: CaseResult) -> str:
    if result.error is not None:
        return f"FAIL  {result.error}"
    if result.skipped is not None:
        return f"skip  {result.skipped}"
    parts = [f"{title} {_worst(result.comparisons, starts)}" for title, starts in COLUMNS.items()]
    parts.insert(3, f"greedy {_tokens(result.comparisons)}")
    for name in dict.fromkeys(one.compatibility for one in result.comparisons if one.compatibility):
        parts.append(f"{name} {_worst([one for one in result.comparisons if one.compatibility == name], ('logits_', 'loss_'))}")
    converted = [one for one in result.comparisons if one.key.startswith("convert ")]
    if converted:
        exact = sum(one.verdict == "pass" for one in converted)
        parts = [f"{exact} of {len(converted)} conversions equal bit for bit"]
    left_out = [one.key for one in result.comparisons if one.verdict == "skipped"]
    note = f"  (skipped: {', '.join(left_out)})" if left_out else ""
    return f"{'FAIL' if result.failed else 'ok'}    "[:6] + "  ".join(parts) + note


def _worst(comparisons: Iterable[Comparison], starts: tuple[str, ...]) -> str:
    """The largest difference among the keys, or that there is none to compare with."""
    compared = [one for one in comparisons if one.verdict != "skipped" and any(_belongs(one.key, start) for start in starts)]
    if not compared:
        return "no golden"
    if any(one.difference is None for one in compared):
        return "FAIL"
    worst = max(compared, key=lambda one: (one.verdict == "fail", one.difference))
    return f"{worst.difference:.1e}" + (" FAIL" if worst.verdict == "fail" else "")


def _belongs(key: str, start: str) -> bool:
    return key.startswith(start) if start.endswith((".", "_")) or start == "logits_long" else key == start


def _tokens(comparisons: Iterable[Comparison]) -> str:
    compared = [one for one in comparisons if one.key.startswith("greedy")]
    if not compared:
        return "no golden"
    return next((f"FAIL ({one.key})" for one in compared if one.verdict == "fail"), "equal")


def _detail(one: Comparison) -> str:
    if one.verdict == "skipped":
        return f"skipped  {one.key}: {one.note}"
    figures = "" if one.difference is None else f" {one.difference:.2e} (allowed {one.tolerance:.0e})"
    return f"{one.verdict:<7}  {one.key}{figures}{'  ' + one.note if one.note else ''}"
