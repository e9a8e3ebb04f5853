"""python -m bench.kill_encoding FILE... --tokenizer DIR: kills `beichen data encode` at random moments and compares the bytes.

Encodes the files once undisturbed, then again and again in new folders, each time killing the process (SIGKILL) after a random time and
starting it again, until so many kills have struck. Every folder that gets done must hold the bytes of the first. Prints one line a kill.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.process_tree import descendants


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.kill_encoding", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--tokenizer", required=True, metavar="DIR")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--more", nargs="*", default=[], metavar="OPTION", help="options of data encode, without their dashes: duplicates=near"
    )
    given = parser.parse_args()
    more = [part for option in given.more for part in _words(option)]
    words = [sys.executable, "-m", "beichen", "data", "encode", "--input", *given.files, "--tokenizer", given.tokenizer, *more]
    with tempfile.TemporaryDirectory(prefix="beichen-kills-") as place:
        return _kill(words, Path(place), given.kills, random.Random(given.seed))


def _words(option: str) -> list[str]:
    name, _, values = option.partition("=")
    return [f"--{name}", *([value for value in values.split(",") if value])]


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
            after = choice.uniform(0.1, 0.9) * seconds
            try:
                code = process.wait(after if struck < kills else None)
                break
            except subprocess.TimeoutExpired:
                workers = descendants(process.pid)
                process.send_signal(signal.SIGKILL)
                process.wait()
                struck += 1
                kept = sum(path.stat().st_size for path in folder.rglob("shard-*")) if folder.exists() else 0
                print(f"kill {struck}: after {after:.1f} s, {kept:,} bytes of shards, {len(workers)} processes below it", flush=True)
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


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but its lock."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


if __name__ == "__main__":
    sys.exit(main())
