"""The sections of the results, in the order of the page, one line each: its title, and what its figures say as lines of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import finetune_verdicts, server_verdicts, serving_verdicts, step_variants_verdicts, tokenizer_verdicts, verdicts
from bench.records import BenchResult


def _nothing(rows: Sequence[BenchResult]) -> list[str]:
    return []


@dataclass(frozen=True)
class Section:
    """One section; its name is that of its records."""

    title: str
    says: Callable[[Sequence[BenchResult]], list[str]] = _nothing


SECTIONS = {
    "training": Section("Training step", verdicts.speeds),
    "time table": Section("Time of a step by operation", verdicts.picture),
    "decoding": Section("Decoding", verdicts.speeds),
    serving_verdicts.SECTION: Section(serving_verdicts.TITLE, serving_verdicts.as_lines),
    "packing": Section("Dialogues in rows: packing, isolated attention, rendering", verdicts.packing),
    "encoding": Section("Text to ids on disk", verdicts.encoding),
    **{name: Section(title, partial(finetune_verdicts.as_lines, name)) for name, title in finetune_verdicts.TITLES.items()},
    **{name: Section(title, partial(verdicts.compared, name)) for name, title in tokenizer_verdicts.TITLES.items()},
    server_verdicts.SECTION: Section("What the server costs beside its engine", server_verdicts.as_lines),
    step_variants_verdicts.SECTION: Section("What changes the speed of a decoding step", step_variants_verdicts.as_lines),
    "learning race": Section("Learning race", verdicts.race),
    "memory": Section("Memory of loading and saving"),
    "memory estimate": Section("Peak memory of training, beside what a dry run foresees", verdicts.foreseen),
    "determinism": Section("What deterministic algorithms cost a training step", verdicts.determinism),
    "experts": Section(
        "Training step with experts, beside a python loop over them and a dense model of the active parameters", verdicts.experts
    ),
}
