"""python -m bench.mutations: changes of one in masks, shifts, weights, positions, boundaries and end tokens, and what the tests say.

Each change is made alone in a temporary copy of the repository, where the tests of its area then run. Rule: the unchanged copy passes,
and every change makes a test fail; the first failing one is named. Exit code 1 if a change survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.records import FOLDER

ROOT = FOLDER.parent
SHARED = ROOT.parent / "shared"
COPIED = ("beichen", "bench", "tests", "pyproject.toml")
ROWS = ("tests/data/test_packing.py", "tests/data/test_rows.py", "tests/data/test_dialogue_rows.py")
CHAT = ("tests/text/test_chat.py", "tests/text/test_bulk_rendering.py")
ATTENTION = ("tests/nn/test_attention.py", "tests/train/test_packing_law.py")


@dataclass(frozen=True)
class Mutation:
    """A text that occurs once in a file of the package, what replaces it, and the tests that must notice."""

    about: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation("shift: targets", "data/packing.py", "= _gather(streams, owner, index + 1)", "= _gather(streams, owner, index)", ROWS),
    Mutation("shift: loss mask", "data/packing.py", "~_gather(scored, owner, index + 1)", "~_gather(scored, owner, index)", ROWS),
    Mutation("shift: weights", "data/packing.py", "_gather(weights, owner, index + 1)", "_gather(weights, owner, index)", ROWS),
    Mutation("positions: begin at 1", "data/packing.py", "positions[:used] = within", "positions[:used] = within + 1", ROWS),
    Mutation("boundary: one position sees the neighbour", "data/packing.py", "first_visible[:used] = first\n",
             "first_visible[:used] = np.maximum(first - 1, 0)\n", ROWS),
    Mutation("boundary: where a document begins", "data/rows.py", "[drawn.item[here]] - 1  #", "[drawn.item[here]]  #", ROWS),
    Mutation("end token: another id behind documents", "data/store.py", "(ids, (end_id,))", "(ids, (end_id - 1,))",
             ("tests/data/test_encoding.py",)),
    Mutation("end token: cut from the last answer that fits", "data/dialogue_tokens.py", "~scored[1 : room + 1]) + 1",
             "~scored[1 : room + 1])", ROWS),
    Mutation("length: a row takes one id more", "data/dialogue_tokens.py", "seen, sequence_length + 1,",
             "seen, sequence_length + 2,", ROWS),
    Mutation("loss mask: last answer, one message late", "data/loss_mask.py", "else question + 1", "else question + 2",
             ("tests/data/test_loss_mask.py",)),
    Mutation("loss mask: what follows an answer", "text/chat.py", "Block(fill(template.answer_after), 0.0,",
             "Block(fill(template.answer_after), 1.0,", CHAT),
    Mutation("weight: in the loss", "objectives/next_token.py", "total + weight *", "total + (weight + 1) *", ATTENTION),
    Mutation("mask: attention sees the next position", "nn/cache.py", "(key_column <= query_column[:, None])",
             "(key_column <= query_column[:, None] + 1)", ATTENTION),
    Mutation("mask: attention sees one before its document", "nn/cache.py", "(key_column >= first_visible[:, :, None])",
             "(key_column >= first_visible[:, :, None] - 1)", ATTENTION),
    Mutation("weight: items of a pass", "data/pool.py", "math.floor((number + 1) * steps))", "math.floor((number + 1) * steps) + 1)",
             ("tests/data/test_pool.py",)),
)  # fmt: skip


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="beichen-mutations-") as place:
        copy = Path(place) / "repository"
        _copy(copy)
        if SHARED.exists():
            (Path(place) / "shared").symlink_to(SHARED.resolve())
        tests = tuple(dict.fromkeys(test for mutation in MUTATIONS for test in mutation.tests))
        if failed := _first_failure(copy, tests):
            print(f"the unchanged copy fails: {failed}")
            return 1
        survived = 0
        for mutation in MUTATIONS:
            noticed = _try(copy, mutation)
            survived += noticed is None
            print(f"{'survived' if noticed is None else 'noticed '}  {mutation.about:<46} {noticed or ''}", flush=True)
    print(f"{len(MUTATIONS)} changes, {len(MUTATIONS) - survived} noticed")
    return int(survived > 0)


def _copy(target: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)


def _try(copy: Path, mutation: Mutation) -> str | None:
    """The first test that fails with the change, or None."""
    file = copy / "beichen" / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise RuntimeError(f"{mutation.file}: '{mutation.old}' occurs {text.count(mutation.old)} times, expected once")
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return _first_failure(copy, mutation.tests)
    finally:
        file.write_text(text, encoding="utf-8")


def _first_failure(copy: Path, tests: tuple[str, ...]) -> str | None:
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "--tb=no", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        words, cwd=copy, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )
    if ended.returncode == 0:
        return None
    failed = [line.split(" ")[1] for line in ended.stdout.splitlines() if line.startswith("FAILED ")]
    if ended.returncode != 1 or not failed:
        raise RuntimeError(f"{' '.join(words)}: exit code {ended.returncode}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return failed[0]


if __name__ == "__main__":
    sys.exit(main())
