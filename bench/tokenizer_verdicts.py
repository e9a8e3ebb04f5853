"""What the records of tokenizers say: ours over theirs, beside the aims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.records import BenchResult

SIZES = (10, 40, 80, 160)  # MB of text
TRAINING, ENCODING = {size: f"tokenizer training, {size} MB" for size in SIZES}, "tokenizer encoding"  # sections
TITLES = {**{TRAINING[size]: f"Training a tokenizer from {size} MB of text" for size in SIZES}, ENCODING: "Encoding with a tokenizer"}
TRAINING_AIMS = {"tokenizers": 0.25, "rustbpe": 1.0}  # share of their time
AIMED_SIZE = 80

Verdict = tuple[str, float, str]  # what is compared, the ratio, the aim as it is printed


def of_training(rows: Sequence[BenchResult]) -> list[Verdict]:
    """Our time over theirs, and our peak over what it may be."""
    seconds = {row.what: row.value for row in rows}
    found = []
    for name, value in seconds.items():
        if not name.startswith("ours"):
            aim = TRAINING_AIMS.get(name) if rows[0].section == TRAINING[AIMED_SIZE] else None
            found.append((f"time, ours / {name}", seconds["ours, gpt2"] / value, "" if aim is None else f" (aim at most {aim:g})"))
    for row in rows:
        if "aim MB" in row.details:
            share = row.details["peak MB"] / row.details["aim MB"]
            found.append((f"peak memory, {row.what} / budget and margin", share, " (aim at most 1)"))
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
    **dict.fromkeys(TRAINING.values(), of_training),
    ENCODING: of_encoding,
}
