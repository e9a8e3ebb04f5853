"""What the records of decoding steps say: every variant over the same step without it."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records import BenchResult

SECTION = "step variants"
BASE = "bf16"
CODES = ("int8", "nf4")
ADAPTED = {0: "no adapter", 1: "one adapter", 4: "4 adapters", 16: "16 adapters"}
PLAIN, RESTING, ALL_THREADS = "nothing beside", "beside a busy core", "beside a busy core, with all threads"
AGAINST = {
    **dict.fromkeys(CODES, BASE),
    **{name: ADAPTED[0] for count, name in ADAPTED.items() if count},
    RESTING: PLAIN,
    ALL_THREADS: PLAIN,
}


def named(size: str, rows: int, variant: str) -> str:
    """What a record is called."""
    return f"{size}, {rows} {'row' if rows == 1 else 'rows'}: {variant}"


def as_lines(rows: Sequence[BenchResult]) -> list[str]:
    """For every load one line of ratios."""
    speeds = {row.what: row.value for row in rows}
    lines: dict[str, list[str]] = {}
    for what, value in speeds.items():
        load, _, variant = what.partition(": ")
        if (base := speeds.get(f"{load}: {AGAINST.get(variant)}")) is not None:
            lines.setdefault(f"{load}, over {AGAINST[variant]}", []).append(f"{variant} **{value / base:.2f} x**")
    return [f"- {load}: {', '.join(ratios)}" for load, ratios in lines.items()]
