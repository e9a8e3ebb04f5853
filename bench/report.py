"""``RESULTS.md`` from the records: for each section its newest run, with ratios, shares of the ceiling and the aims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.records import FOLDER, BenchResult
from bench.sections import SECTIONS

RESULTS_PAGE = FOLDER / "RESULTS.md"


def newest(records: Sequence[BenchResult], section: str) -> list[BenchResult]:
    """The rows of the section's last run."""
    rows = [record for record in records if record.section == section]
    return [record for record in rows if record.run == rows[-1].run]


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
        f"## {SECTIONS[section].title}",
        f"`{first.command}` at {first.commit}, {first.date}; {first.machine}; torch {first.torch}.",
        as_table(rows),
    ]
    if lines := SECTIONS[section].says(rows):
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def write_page(records: Sequence[BenchResult], path: Path = RESULTS_PAGE) -> None:
    """Render the whole page."""
    head = (
        "# Results\n\nRendered from `results.jsonl` by `make bench`; do not edit. Medians; ± is half the range of the repeats. "
        "Contenders of a section took turns in one run, so ratios hold where absolute figures drift."
    )
    sections = [section_text(section, newest(records, section)) for section in SECTIONS if any(row.section == section for row in records)]
    path.write_text("\n\n".join([head, *sections]) + "\n", encoding="utf-8", newline="\n")


def _figure(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"
