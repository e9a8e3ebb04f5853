"""Commands killed at random moments and started again, until they get done; what they leave must be the bytes of an undisturbed run.

One line a kill is printed. ``kill_commands`` is the whole of it; what a command is, and what its killed state looks like, is the caller's.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Window = tuple[float, float]  # the shares of an undisturbed run's time between which a kill strikes


def kill_commands(words: Sequence[str], *, kills: int, seed: int, window: Window, left: Callable[[Path], str]) -> int:
    """Run ``words --out DIR`` undisturbed, then into new folders with so many kills.  left: says what a killed DIR holds.  -> exit code"""
    with tempfile.TemporaryDirectory(prefix="beichen-kills-") as name:
        place, choice = Path(name), random.Random(seed)
        begun = time.monotonic()
        subprocess.run([*words, "--out", str(place / "whole")], check=True, capture_output=True)
        seconds = time.monotonic() - begun
        want = contents(place / "whole")
        print(f"undisturbed: {seconds:.1f} s, {len(want)} files, {sum(map(len, want.values())):,} bytes", flush=True)
        struck = folders = 0
        while struck < kills:
            folder = place / f"killed-{folders}"
            while True:
                after = choice.uniform(*window) * seconds
                code = _run([*words, "--out", str(folder)], after if struck < kills else None)
                if code is not None:
                    break
                struck += 1
                print(f"kill {struck}: after {after:.1f} s, {left(folder)}", flush=True)
            if code:
                print(f"FAILED: exit code {code}")
                return 1
            if contents(folder) != want:
                print(f"FAILED: {folder} differs from the undisturbed folder")
                return 1
            folders += 1
            print(f"folder {folders} done: identical", flush=True)
        print(f"{struck} kills, {folders} folders, all identical to the undisturbed one")
        return 0


def _run(words: Sequence[str], seconds: float | None) -> int | None:
    """-> the exit code, or None where the time was over first and the process was killed."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but its lock."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
