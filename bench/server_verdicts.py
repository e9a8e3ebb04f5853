"""What the records of the server say: what it costs beside its engine, and how much sooner a shared beginning is answered."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records import BenchResult

SECTION = "server"
STREAMS, PREFIX_TOKENS = 16, 1000
ALONE, SERVED = "the engine alone", "streamed by the server"
NEW, SHARED = "new", "shared with an earlier request"


def streamed(how: str) -> str:
    """What a record of throughput is called."""
    return f"{STREAMS} at once, {how}"


def first_token(beginning: str) -> str:
    """What a record of a first token is called."""
    return f"first token, {PREFIX_TOKENS} tokens {beginning}"


def overhead(rows: Sequence[BenchResult]) -> float | None:
    """The share of the engine's throughput that the server costs."""
    speeds = {row.what: row.value for row in rows}
    direct, served = speeds.get(streamed(ALONE)), speeds.get(streamed(SERVED))
    return None if direct is None or served is None else 1 - served / direct


def as_lines(rows: Sequence[BenchResult]) -> list[str]:
    """What the figures say, beside the aims."""
    lines = []
    if (share := overhead(rows)) is not None:
        lines.append(f"- the server costs **{share:.1%}** of the engine's throughput at {STREAMS} streams (aim: under 3 %)")
    times = {row.what: row.value for row in rows}
    new, shared = times.get(first_token(NEW)), times.get(first_token(SHARED))
    if new and shared:
        lines.append(f"- a shared beginning of {PREFIX_TOKENS} tokens: the first token **{new / shared:.1f} x** sooner (aim 5 x)")
    return lines
