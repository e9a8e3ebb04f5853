"""python -m bench.kill_encoding FILE... --tokenizer DIR: kills `beichen data encode` at random moments and compares the bytes.

Encodes the files once undisturbed, then again and again in new folders, each time killing the process (SIGKILL) after a random time and
starting it again, until so many kills have struck. Every folder that gets done must hold the bytes of the first. Prints one line a kill.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.killing import kill_commands


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
    return kill_commands(words, kills=given.kills, seed=given.seed, window=(0.1, 0.9), left=_shards)


def _words(option: str) -> list[str]:
    name, _, values = option.partition("=")
    return [f"--{name}", *([value for value in values.split(",") if value])]


def _shards(folder: Path) -> str:
    kept = sum(path.stat().st_size for path in folder.rglob("shard-*")) if folder.exists() else 0
    return f"{kept:,} bytes of shards"


if __name__ == "__main__":
    sys.exit(main())
