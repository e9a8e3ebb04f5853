"""What the records of tokenizers say: ours over theirs, beside the aims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.records import BenchResult

Verdict = tuple[str, float, str]  # what is compared, the ratio, the aim as it is printed
TRAINING_AIMS = {"tokenizers": 0.25, "rustbpe": 1.0}  # share of their time, at the size of the aim
AIMED_SIZE = "80 MB"


def of_training(rows: Sequence[BenchResult]) -> list[Verdict]:
    """Our time over theirs, and our peak over what it may be."""
    seconds = {row.what: row.value for row in rows}
    found = []
    for what, value in seconds.items():
        size, _, name = what.partition(", ")
        ours = seconds[f"{size}, ours, gpt2"]
        if not name.startswith("ours"):
            aim = TRAINING_AIMS.get(name) if size == AIMED_SIZE else None
            found.append((f"time at {size}, ours / {name}", ours / value, "" if aim is None else f" (aim at most {aim:g})"))
    for row in rows:
        if "aim MB" in row.details:
            found.append(
                (f"peak memory at {row.what} / budget and margin", row.details["peak MB"] / row.details["aim MB"], " (aim at most 1)")
            )
    return found


def of_encoding(rows: Sequence[BenchResult]) -> list[Verdict]:
    """Our speed over theirs."""
    speed = {row.what: row.value for row in rows}
    found = []
    for what, value in speed.items():
        cores, _, name = what.partition(", ")
        if name != "ours":
            found.append((f"{cores}, ours / {name}", speed[f"{cores}, ours"] / value, " (aim 1 x)" if name == "tiktoken" else ""))
    return found


COMPARISONS: Mapping[str, Callable[[Sequence[BenchResult]], list[Verdict]]] = {
    "tokenizer training": of_training,
    "tokenizer encoding": of_encoding,
}
