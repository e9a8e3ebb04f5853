"""What the records of fine-tuning say: ours over each peer, in targets a second and in peak memory, beside the aims."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records import BenchResult

OURS, PEAK = "ours", "peak_MB"
COMPILED = ", compiled"  # behind a section's name: its peers under torch.compile
TITLES = {
    "fine-tuning": "Fine-tuning on dialogues, beside trl and transformers",
    "adapters": "Adapters (LoRA) on dialogues, beside trl and transformers with peft",
    "preferences": "Preferences (DPO), beside trl",
}
TITLES |= {f"{section}{COMPILED}": f"{title}, these under torch.compile" for section, title in TITLES.items()}
AIMS = {"fine-tuning": 1.5, "adapters": 1.5, "preferences": 1.3}


def over_peers(rows: Sequence[BenchResult]) -> list[tuple[str, float, float]]:
    """(peer, our speed over its, our peak memory over its)."""
    mine = next(row for row in rows if row.what == OURS)
    return [(row.what, mine.value / row.value, mine.details[PEAK] / row.details[PEAK]) for row in rows if row.what != OURS]


def as_lines(section: str, rows: Sequence[BenchResult]) -> list[str]:
    """One line a peer, and what was held equal."""
    aim = AIMS[section.removesuffix(COMPILED)]
    lines = [
        f"- ours / {peer}: **{speed:.2f} x** (aim {aim:g} x), peak memory **{peak:.2f}** of its" for peer, speed, peak in over_peers(rows)
    ]
    checked = [row for row in rows if "check_theirs" in row.details]
    what = "mean log-probability of an answer under the reference" if section.startswith("preferences") else "loss of the first step's rows"
    lines += [
        f"- {row.what}, {what}: {row.details['check_theirs']:.4f} in its run, {row.details['check_ours']:.4f} by our decoder"
        for row in checked
    ]  # fmt: skip
    references = [f"{row.what} {row.details['reference_seconds']:.1f} s" for row in rows if "reference_seconds" in row.details]
    return lines + ([f"- log-probabilities of the reference, once: {', '.join(references)}"] if references else [])
