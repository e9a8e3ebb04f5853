"""python -m bench.kill_tokenizer_training FILE...: kills `beichen tokenizer train` at random moments and compares the bytes.

Trains once undisturbed, then again and again into new folders, each time killing the process (SIGKILL) after a random time and starting it
again, until so many kills have struck. Every folder that gets done must hold the bytes of the first. Prints one line a kill.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.killing import kill_commands


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
    return kill_commands(words, kills=given.kills, seed=given.seed, window=(0.05, 0.95), left=_counted)


def _counted(folder: Path) -> str:
    work = folder.with_name(folder.name + ".training")
    runs = sum(path.stat().st_size for path in work.glob("*.run"))
    merges = work / "merges.bin"
    return f"{runs:,} bytes of counts, {merges.stat().st_size // 8 if merges.exists() else 0:,} merges"


if __name__ == "__main__":
    sys.exit(main())
