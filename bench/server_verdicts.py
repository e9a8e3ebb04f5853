"""What the records of the server say: what it costs beside its engine, and how much sooner a shared beginning is answered."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records import BenchResult

SECTION = "server"
STREAMS, NEW_TOKENS, PREFIX_TOKENS = 16, (128, 512), 1000
ALONE, SERVED = "the engine alone", "streamed by the server"
IN_PAIRS, PAIRS_ERROR = "of the engine's speed, median of pairs", "its standard error"
NEW, SHARED = "new", "shared with an earlier request"


def streamed(tokens: int, way: str) -> str:
    """What a record of throughput is called."""
    return f"{STREAMS} at once, {tokens} new tokens, {way}"


def first_token(beginning: str) -> str:
    """What a record of a first token is called."""
    return f"first token, {PREFIX_TOKENS} tokens {beginning}"


def overhead(rows: Sequence[BenchResult], tokens: int) -> tuple[float, float] | None:
    """The share of the engine's throughput that the server costs, in answers of so many tokens, and its standard error."""
    found = [row.details for row in rows if row.what == streamed(tokens, SERVED) and {IN_PAIRS, PAIRS_ERROR} <= row.details.keys()]
    return (1 - found[0][IN_PAIRS], found[0][PAIRS_ERROR]) if found else None


def as_lines(rows: Sequence[BenchResult]) -> list[str]:
    """What the figures say, beside the aims."""
    lines = []
    for tokens in NEW_TOKENS:
        if (found := overhead(rows, tokens)) is not None:
            (share, error), whose = found, f"{STREAMS} streams of {tokens} tokens"
            lines.append(f"- the server costs **{share:.1%}** (± {error:.1%}) of the engine's throughput at {whose} (aim: under 3 %)")
    times = {row.what: row.value for row in rows}
    new, shared = times.get(first_token(NEW)), times.get(first_token(SHARED))
    if new and shared:
        lines.append(f"- a shared beginning of {PREFIX_TOKENS} tokens: the first token **{new / shared:.1f} x** sooner (aim 5 x)")
    return lines
