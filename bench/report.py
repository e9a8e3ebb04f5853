"""``RESULTS.md`` from the records: for each section its newest run, with ratios, shares of the ceiling and the aims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import finetune_verdicts, serving_verdicts, tokenizer_verdicts
from bench.learning_race import RIVALS
from bench.records import FOLDER, BenchResult

RESULTS_PAGE = FOLDER / "RESULTS.md"
PICTURE = "time_table.png"
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
TITLES = {
    "training": "Training step",
    "time table": "Time of a step by operation",
    "decoding": "Decoding",
    serving_verdicts.SECTION: serving_verdicts.TITLE,
    "packing": "Dialogues in rows: packing, isolated attention, rendering",
    "encoding": "Text to ids on disk",
    **finetune_verdicts.TITLES,
    **tokenizer_verdicts.TITLES,
    "learning race": "Learning race",
    "memory": "Memory of loading and saving",
    "memory estimate": "Peak memory of training, beside what a dry run foresees",
    "determinism": "What deterministic algorithms cost a training step",
    "experts": "Training step with experts, beside a python loop over them and a dense model of the active parameters",
}


def newest(records: Sequence[BenchResult], section: str) -> list[BenchResult]:
    """The rows of the section's last run."""
    rows = [record for record in records if record.section == section]
    return [record for record in rows if record.run == rows[-1].run]


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


def as_table(rows: Sequence[BenchResult]) -> str:
    """One Markdown row a record."""
    lines = ["| what | median | unit | ± | runs | ceiling | of ceiling | settings |", "|---|---:|---|---:|---:|---:|---:|---|"]
    for row in rows:
        ceiling = "" if row.ceiling is None else f"{row.ceiling:,.5g}"
        share = "" if row.ceiling is None else f"{row.value / row.ceiling:.0%}"
        cells = [row.what, _figure(row.value), row.unit, _figure(row.spread), str(row.runs), ceiling, share, row.settings]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def section_text(section: str, rows: Sequence[BenchResult]) -> str:
    """A section of the page, also printed after a run."""
    first = rows[0]
    parts = [
        f"## {TITLES[section]}",
        f"`{first.command}` at {first.commit}, {first.date}; {first.machine}; torch {first.torch}.",
        as_table(rows),
    ]
    if section in finetune_verdicts.TITLES:
        parts.append("\n".join(finetune_verdicts.as_lines(section, rows)))
    if section == serving_verdicts.SECTION:
        parts.append("\n".join(serving_verdicts.as_lines(rows)))
    if section == "determinism":
        parts.append("\n".join(f"- {label}: **{share:.3f}** of the speed without them" for label, share in of_default_speed(rows)))
    if section == "packing":
        parts.append("\n".join(f"- {label}: **{share:.2f}** of the causal time (aim {aim:g})" for label, share, aim in isolated(rows)))
    if section == "encoding":
        parts.append("\n".join(f"- {label}: **{ratio:.2f} x**{aim}" for label, ratio, aim in encoded(rows)))
    if section in tokenizer_verdicts.COMPARISONS:
        parts.append("\n".join(f"- {what}: **{ratio:.2f} x**{aim}" for what, ratio, aim in tokenizer_verdicts.COMPARISONS[section](rows)))
    if section == "experts":
        compared = []
        for label, loop, dense in with_experts(rows):
            beside = "" if dense is None else f", **{dense:.2f}** of the dense model's speed (aim {DENSE_AIM:g})"
            compared.append(f"- {label}: **{loop:.2f} x** the loop's{beside}")
        parts.append("\n".join(compared))
    verdicts = [f"- {label}: **{ratio:.2f} x** (aim {aim:g} x)" for label, ratio, aim in ratios(rows)]
    if section == "training":
        verdicts += [
            f"- share of the bf16 matmul peak: **{row.value / row.ceiling:.0%}** (aim {PEAK_AIM:.0%})"
            for row in rows
            if row.what == "ours" and row.ceiling
        ]
    if section == "learning race":
        details = ", ".join(f"{name} {value:,.0f}" for name, value in first.details.items())
        verdicts += [f"- {details}", *(f"- {name}: {value} (to beat)" for name, value in RIVALS.items())]
    if section == "time table":
        parts.append(f"![time of a step by operation]({PICTURE})")
    if verdicts:
        parts.append("\n".join(verdicts))
    return "\n\n".join(parts)


def write_page(records: Sequence[BenchResult], path: Path = RESULTS_PAGE) -> None:
    """Render the whole page."""
    head = (
        "# Results\n\nRendered from `results.jsonl` by `make bench`; do not edit. Medians; ± is half the range of the repeats. "
        "Contenders of a section took turns in one run, so ratios hold where absolute figures drift."
    )
    sections = [section_text(section, newest(records, section)) for section in TITLES if any(row.section == section for row in records)]
    path.write_text("\n\n".join([head, *sections]) + "\n", encoding="utf-8", newline="\n")


def _figure(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"
