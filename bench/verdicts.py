"""What the figures of each section say: ratios between contenders, beside the aims, as lines of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench import tokenizer_verdicts
from bench.records import BenchResult

PICTURE = "time_table.png"
RIVALS = {"a plain sketch with Muon, 10 min": 1.91, "nanochat, Muon, depth 4, 10 min": 2.08}  # measured once, on a 430 GFLOP/s machine
PEAK_AIM = 0.75
DENSE_AIM = 0.7
CAUSAL = "causal"
DETERMINISTIC, DEFAULT = "deterministic", "as torch is by default"
ISOLATION_AIMS = {"4 documents a row": 0.55, "16 documents a row": 0.37}
ENCODING_PAIRS = (  # ours, theirs, aim
    ("ours", "datasets", 1.5),
    ("ours", "tiktoken", None),
    ("ours, TeleChat-52B's tokenizer", "TeleChat-52B's route", 5.0),
)


def ratios(rows: Sequence[BenchResult]) -> list[tuple[str, float, float]]:
    """(what is compared, ratio, aim) for a run of training or decoding: ours over the best of theirs."""
    speed = {row.what: row.value for row in rows if row.unit == "tok/s"}
    found = []
    for label, mine, pattern, aim in (
        ("training step, float32 master weights: ours / transformers autocast", "ours", "transformers autocast", 1.5),
        ("training step: ours / transformers pure bf16", "ours", "transformers pure bf16", 1.1),
        ("decoding alone: ours / transformers", "1 rows: ours", "1 rows: transformers", 3.0),
        ("decoding 16 sequences: ours / transformers", "16 rows: ours", "16 rows: transformers", 1.5),
    ):
        theirs = {name: value for name, value in speed.items() if name.startswith(pattern)}
        if mine in speed and theirs:
            best = max(theirs, key=lambda name: theirs[name])
            found.append((f"{label} ({best.removeprefix(pattern).strip(', ') or 'its best'})", speed[mine] / theirs[best], aim))
    return found


def with_experts(rows: Sequence[BenchResult]) -> list[tuple[str, float, float | None]]:
    """(shape, ours over the loop, ours over the dense model where it was measured) for a run with experts."""
    speed = {row.what: row.value for row in rows}
    labels = [what.removesuffix(": loop") for what in speed if what.endswith(": loop")]
    found = []
    for label in labels:
        ours, dense = speed[f"{label}: ours"], speed.get(f"{label}: dense")
        found.append((label, ours / speed[f"{label}: loop"], None if dense is None else ours / dense))
    return found


def of_default_speed(rows: Sequence[BenchResult]) -> list[tuple[str, float]]:
    """(step, speed with deterministic algorithms over that without) for a run of both."""
    speed = {row.what: row.value for row in rows}
    labels = [what.removesuffix(f": {DETERMINISTIC}") for what in speed if what.endswith(f": {DETERMINISTIC}")]
    return [(label, speed[f"{label}: {DETERMINISTIC}"] / speed[f"{label}: {DEFAULT}"]) for label in labels]


def isolated(rows: Sequence[BenchResult]) -> list[tuple[str, float, float]]:
    """(what, time of isolated attention over that of causal attention of the same rows, aim)."""
    time = {row.what: row.value for row in rows if row.unit == "ms"}
    found = []
    for what, value in time.items():
        backend, _, documents = what.rpartition(", ")
        aim = ISOLATION_AIMS.get(documents)
        if aim is not None:
            found.append((what, value / time[f"{backend}, {CAUSAL}"], aim))
    return found


def encoded(rows: Sequence[BenchResult]) -> list[tuple[str, float, str]]:
    """(which two, tokens per second of the first over those of the second, aim) of a run that encodes text."""
    speed = {row.what: row.value for row in rows if row.unit == "tok/s"}
    found = []
    for mine, theirs, aim in ENCODING_PAIRS:
        if mine in speed and theirs in speed:
            found.append((f"{mine} / {theirs}", speed[mine] / speed[theirs], f" (aim {aim:g} x)" if aim else ""))
    return found


def speeds(rows: Sequence[BenchResult]) -> list[str]:
    """Ours over the best of theirs."""
    lines = [f"- {label}: **{ratio:.2f} x** (aim {aim:g} x)" for label, ratio, aim in ratios(rows)]
    shares = [row.value / row.ceiling for row in rows if row.section == "training" and row.what == "ours" and row.ceiling]
    return lines + [f"- share of the bf16 matmul peak: **{share:.0%}** (aim {PEAK_AIM:.0%})" for share in shares]


def experts(rows: Sequence[BenchResult]) -> list[str]:
    """Ours over the loop, and of the dense model's speed."""
    lines = []
    for label, loop, dense in with_experts(rows):
        beside = "" if dense is None else f", **{dense:.2f}** of the dense model's speed (aim {DENSE_AIM:g})"
        lines.append(f"- {label}: **{loop:.2f} x** the loop's{beside}")
    return lines


def race(rows: Sequence[BenchResult]) -> list[str]:
    """What was reached, and what is to beat."""
    details = ", ".join(f"{name} {value:,.0f}" for name, value in rows[0].details.items())
    return [f"- {details}", *(f"- {name}: {value} (to beat)" for name, value in RIVALS.items())]


def foreseen(rows: Sequence[BenchResult]) -> list[str]:
    """How near the estimates came."""
    shares = [row.details["estimate / measured"] for row in rows]
    return [f"- foreseen over reached: **{min(shares):.2f} to {max(shares):.2f}** in {len(shares)} settings (aim: within 10 %)"]


def compared(section: str, rows: Sequence[BenchResult]) -> list[str]:
    """The comparisons of a section of tokenizers."""
    return [f"- {what}: **{ratio:.2f} x**{aim}" for what, ratio, aim in tokenizer_verdicts.COMPARISONS[section](rows)]


def picture(rows: Sequence[BenchResult]) -> list[str]:
    """The picture of the table."""
    return [f"![time of a step by operation]({PICTURE})"]


def packing(rows: Sequence[BenchResult]) -> list[str]:
    """What isolation costs."""
    return [f"- {label}: **{share:.2f}** of the causal time (aim {aim:g})" for label, share, aim in isolated(rows)]


def encoding(rows: Sequence[BenchResult]) -> list[str]:
    """Ours over theirs."""
    return [f"- {label}: **{ratio:.2f} x**{aim}" for label, ratio, aim in encoded(rows)]


def determinism(rows: Sequence[BenchResult]) -> list[str]:
    """The share of speed that is left."""
    return [f"- {label}: **{share:.3f}** of the speed without them" for label, share in of_default_speed(rows)]
