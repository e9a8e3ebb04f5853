"""python -m bench.kill_tokenizer_training FILE...: kills `beichen tokenizer train` at random moments and compares the bytes.

Trains once undisturbed, then again and again into new folders, each time killing the process (SIGKILL) after a random time and starting it
again, until so many kills have struck. Every folder that gets done must hold the bytes of the first. Prints one line a kill.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.kill_encoding import contents


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.kill_tokenizer_training", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--memory", default="512MiB")
    parser.add_argument("--pattern", default="gpt2")
    given = parser.parse_args()
    words = [sys.executable, "-m", "beichen", "tokenizer", "train", "--input", *given.files, "--vocab-size", str(given.vocab_size)]
    words += ["--memory", given.memory, "--pattern", given.pattern]
    with tempfile.TemporaryDirectory(prefix="beichen-kills-") as place:
        return _kill(words, Path(place), given.kills, random.Random(given.seed))


def _kill(words: list[str], place: Path, kills: int, choice: random.Random) -> int:
    begun = time.monotonic()
    subprocess.run([*words, "--out", str(place / "whole")], check=True, capture_output=True)
    seconds = time.monotonic() - begun
    want = contents(place / "whole")
    print(f"undisturbed: {seconds:.1f} s, {len(want)} files, {sum(map(len, want.values())):,} bytes", flush=True)
    struck = folders = 0
    while struck < kills:
        folder = place / f"killed-{folders}"
        while True:
            process = subprocess.Popen([*words, "--out", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            after = choice.uniform(0.05, 0.95) * seconds
            try:
                code = process.wait(after if struck < kills else None)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                struck += 1
                print(f"kill {struck}: after {after:.1f} s, {_state(folder.with_name(folder.name + '.training'))}", flush=True)
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


def _state(work: Path) -> str:
    """What the killed training leaves behind."""
    runs = sum(path.stat().st_size for path in work.glob("*.run"))
    merges = work / "merges.bin"
    return f"{runs:,} bytes of counts, {merges.stat().st_size // 8 if merges.exists() else 0:,} merges"


if __name__ == "__main__":
    sys.exit(main())
