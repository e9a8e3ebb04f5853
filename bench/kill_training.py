"""python -m bench.kill_training [--kills 50]: kills training runs at random moments and compares weights and metrics, to the bit.

Each variant (number format, experts, curriculum, dropout, adapters, preferences, ...) is trained once undisturbed, on text and dialogues
made for it. Then it is trained in new folders by processes that are killed (SIGKILL) and started again, until its kills have struck: by
turns after a random time, and as soon as one of its saves, drawn at random, has begun to write. A folder that gets done must hold the
same weights and the same records (but for the clock) as the undisturbed one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.train.metrics import CLOCK
from bench.training_variants import make_material, variants

WEIGHTS = "*.safetensors"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.kill_training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="in all (default %(default)s), at least 3 for each variant")
    parser.add_argument("--variants", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--threads", type=int, default=1, help="of each run (default %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="beichen-kills-") as place:
        return kill_all(Path(place), given.kills, given.variants, random.Random(given.seed), threads=given.threads)


def kill_all(place: Path, kills: int, names: list[str] | None, choice: random.Random, *, threads: int = 1) -> int:
    """Every variant in turn.  -> exit code"""
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"  # killed processes leave semaphores behind
    material = make_material(place / "material")
    chosen = {name: {**recipe, "threads": threads} for name, recipe in variants(material).items() if not names or name in names}
    if not chosen:
        print(f"no such variant; there are: {', '.join(variants(material))}")
        return 2
    each = max(3, -(-kills // len(chosen)))
    differences, struck = 0, Counter[str]()
    print(f"{'variant':<28} {'seconds':>8} {'kills':>6} {'runs':>5} {'in a save':>10} {'before a step':>14} {'same':>5}")
    for name, recipe in chosen.items():
        same, moments, folders, seconds = kill_variant(place / name, recipe, each, choice)
        differences += not same
        struck += moments
        row = f"{seconds:>8.1f} {moments.total():>6} {folders:>5} {moments['in a save']:>10} {moments['before the first step']:>14}"
        print(f"{name:<28} {row} {'yes' if same else 'NO':>5}", flush=True)
    print(f"{struck.total()} kills ({', '.join(f'{count} {moment}' for moment, count in struck.items())}), {differences} differences")
    return 1 if differences else 0


def kill_variant(place: Path, recipe: Mapping[str, Any], kills: int, choice: random.Random) -> tuple[bool, Counter[str], int, float]:
    """-> (all alike, when the kills struck, folders that got done, seconds of the undisturbed run)"""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["bench.training_variants"])
    begun = time.monotonic()
    _ended(processes, recipe, place / "whole", Moment())
    seconds = time.monotonic() - begun
    want = outcome(place / "whole")
    moments: Counter[str] = Counter()
    folders = 0
    while moments.total() < kills:
        folder = place / f"killed-{folders}"
        while not _ended(processes, recipe, folder, _when(choice, moments.total(), kills, seconds)):
            moments[moment(folder)] += 1
        folders += 1
        if outcome(folder) != want:
            return False, moments, folders, seconds
    return True, moments, folders, seconds


@dataclass(frozen=True)
class Moment:
    """When a process is killed: after so many seconds, or when so many saves have begun to write."""

    seconds: float | None = None
    saves: int | None = None


def _when(choice: random.Random, struck: int, kills: int, seconds: float) -> Moment:
    if struck == kills:
        return Moment()
    return Moment(seconds=choice.uniform(0.2, 1.0) * seconds) if struck % 2 else Moment(saves=choice.randrange(1, 8))


def _ended(processes: Any, recipe: Mapping[str, Any], folder: Path, kill: Moment) -> bool:
    """Whether the run came to its end before it was killed."""
    process = processes.Process(target=_train, args=(recipe, folder))
    process.start()
    if kill.saves is None:
        process.join(kill.seconds)
    else:
        _wait_for_saves(process, folder, kill.saves)
    if process.exitcode is None:
        process.kill()
        process.join()
        return False
    if process.exitcode:
        raise RuntimeError(f"{folder}: the run failed")
    return True


def _wait_for_saves(process: Any, folder: Path, saves: int) -> None:
    """Until so many different half-written states have been seen, or the run has ended."""
    seen: set[str] = set()
    while process.exitcode is None and len(seen) < saves:
        with contextlib.suppress(FileNotFoundError):  # a folder can go between two looks
            seen |= {path.name for path in folder.glob("state/.*.partial")}


def _train(recipe: Mapping[str, Any], folder: Path) -> None:
    from beichen.train.run import train

    if (folder / "result.json").exists():  # killed after its last rename
        return
    train({**recipe, "out": str(folder)})


def moment(folder: Path) -> str:
    """What a kill met."""
    if any(folder.rglob("*.partial")):
        return "in a save"
    metrics = folder / "metrics.jsonl"
    return "in a step" if metrics.exists() and metrics.stat().st_size else "before the first step"


def outcome(folder: Path) -> dict[str, Any]:
    """What must not differ: the bytes of the weights, the records of the steps, the result."""

    def keep(table: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in table.items() if key not in CLOCK}

    weights = {path.name: path.read_bytes() for path in folder.glob(WEIGHTS)}
    records = [keep(json.loads(line)) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    result = keep(json.loads((folder / "result.json").read_text(encoding="utf-8")))
    return {"weights": weights, "records": records, "result": {**result, "folder": None}}


if __name__ == "__main__":
    sys.exit(main())
