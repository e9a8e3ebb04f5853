"""What the records of the server say: what it costs beside its engine, and how much sooner a shared beginning is answered."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records import BenchResult

SECTION = "server"
STREAMS, NEW_TOKENS, PREFIX_TOKENS = 16, (128, 512), 1000
ALONE, SERVED = "the engine alone", "streamed by the server"
IN_PAIRS = "of the engine's speed, median of rounds"
NEW, SHARED = "new", "shared with an earlier request"


def streamed(tokens: int, way: str) -> str:
    """What a record of throughput is called."""
    return f"{STREAMS} at once, {tokens} new tokens, {way}"


def first_token(beginning: str) -> str:
    """What a record of a first token is called."""
    return f"first token, {PREFIX_TOKENS} tokens {beginning}"


def overhead(rows: Sequence[BenchResult], tokens: int) -> float | None:
    """The share of the engine's throughput that the server costs, in answers of so many tokens."""
    shares = [row.details[IN_PAIRS] for row in rows if row.what == streamed(tokens, SERVED) and IN_PAIRS in row.details]
    return 1 - shares[0] if shares else None


def as_lines(rows: Sequence[BenchResult]) -> list[str]:
    """What the figures say, beside the aims."""
    lines = []
    for tokens in NEW_TOKENS:
        if (share := overhead(rows, tokens)) is not None:
            whose = f"{STREAMS} streams of {tokens} tokens"
            lines.append(f"- the server costs **{share:.1%}** of the engine's throughput at {whose} (aim: under 3 %)")
    times = {row.what: row.value for row in rows}
    new, shared = times.get(first_token(NEW)), times.get(first_token(SHARED))
    if new and shared:
        lines.append(f"- a shared beginning of {PREFIX_TOKENS} tokens: the first token **{new / shared:.1f} x** sooner (aim 5 x)")
    return lines
