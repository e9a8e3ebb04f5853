"""A record for each figure: one measured number, repeatable from its row alone; rows are lines of ``bench/results.jsonl``."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from beichen.util.machine import hardware_facts

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """One measured number; a line of ``results.jsonl``."""

    what: str  # "ours", "transformers autocast"
    value: float  # the median
    unit: str  # "tok/s"
    runs: int  # repeats
    spread: float  # half the range of the repeats, same unit
    ceiling: float | None  # what the hardware allows by arithmetic, same unit
    command: str  # the exact line that made it
    commit: str
    date: str
    machine: str
    torch: str
    run: str  # rows of one run were measured side by side; only those may be compared
    section: str  # "training", "time table", "decoding", "learning race", "memory": what one subcommand measures
    settings: str = ""  # how the contender was set up
    details: dict[str, float] = field(default_factory=dict)  # further figures of the same measurement, names with units


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all records of one run share."""

    command: str
    commit: str
    date: str
    machine: str
    torch: str

    def record(
        self, section: str, what: str, values: Sequence[float], unit: str, *, ceiling: float | None = None, settings: str = "",
        details: dict[str, float] | None = None,
    ) -> BenchResult:  # fmt: skip
        """The median of ``values`` with its spread."""
        return BenchResult(
            section=section, what=what, value=round(statistics.median(values), 4), unit=unit, runs=len(values),
            spread=round((max(values) - min(values)) / 2, 4), ceiling=None if ceiling is None else round(ceiling, 4),
            command=self.command, commit=self.commit, date=self.date, machine=self.machine, torch=self.torch,
            run=f"{self.date} {self.commit}", settings=settings,
            details={name: round(value, 4) for name, value in (details or {}).items()},
        )  # fmt: skip


def begin_run() -> Run:
    """Facts of this process: the command line, the commit (with + when the tree differs from it), the machine, the versions."""
    import torch

    arguments = " ".join(sys.argv[1:])
    return Run(
        command=f"python -m bench {arguments}".strip(), commit=_commit(), date=time.strftime("%Y-%m-%d %H:%M:%S"),
        machine=machine(), torch=torch.__version__,
    )  # fmt: skip


def machine() -> str:
    """Processor, threads of this process, and the instruction sets that decide the bf16 peak."""
    import torch

    facts = hardware_facts()
    matrix = [name for name in facts["instruction_sets"] if name in ("amx_bf16", "avx512_bf16")] or facts["instruction_sets"][-1:]
    return ", ".join([facts["cpu"], f"{torch.get_num_threads()} threads", *matrix])


def append(records: Iterable[BenchResult], path: Path = RESULTS) -> None:
    """Add rows to the file."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")


def read(path: Path = RESULTS) -> list[BenchResult]:
    """All rows of the file. Raises ValueError naming the line that is no record."""
    if not path.exists():
        return []
    known = {item.name for item in fields(BenchResult)}
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        values = json.loads(line)
        if unknown := set(values) - known:
            raise ValueError(f"{path.name}:{number}: unknown fields {sorted(unknown)}; a record has {sorted(known)}")
        records.append(BenchResult(**values))
    return records


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(("git", *arguments), cwd=FOLDER, capture_output=True, text=True, encoding="utf-8", check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../beichen", ".")
        return git("rev-parse", "--short=9", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"  # an unpacked archive has no history
