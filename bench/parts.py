"""What ``python -m bench`` measures, one line a part: what it says of itself, the function that measures, the options which that reads.

A function takes the run and its options and gives records; its module is imported when the part is asked for. The race is no part: it
trains for as long as it is told to, on the files that it is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from beichen.util.late import resolve
from bench.records import BenchResult, Run


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part. ``takes``: options of the command line; ``given``: arguments of the part's own; ``usual``: measured when none is named."""

    told: str
    by: str  # module:function
    takes: tuple[str, ...] = ("rounds",)
    given: Mapping[str, Any] = field(default_factory=dict)
    usual: bool = False

    def measure(self, run: Run, options: argparse.Namespace) -> list[BenchResult]:
        """The part's records."""
        found: list[BenchResult] = resolve(self.by)(run, **self.given, **{name: getattr(options, name) for name in self.takes})
        return found


def _tuned(kind: str, told: str) -> Part:
    return Part(told=f"{told} (make bench-peers first)", by="bench.finetune:measure", takes=("rounds", "compiled"), given={"kind": kind})


PARTS = {
    "train": Part(
        told="training steps beside transformers", by="bench.training_step:measure", takes=("rounds", "compiled"), usual=True
    ),
    "table": Part(told="time of a step by operation", by="bench.time_table:measure", takes=(), usual=True),
    "decode": Part(told="decoding beside transformers", by="bench.decoding:measure", takes=("rounds", "compiled"), usual=True),
    "packing": Part(
        told="efficiency of packing, cost of isolated attention, rendering of dialogues (a minute)", by="bench.packing:measure"
    ),
    "encoding": Part(
        told="text to ids on disk, speed and memory, beside datasets, tiktoken and TeleChat-52B's route (minutes)",
        by="bench.encoding:measure",
    ),
    "tokenizers": Part(
        told="training tokenizers beside tokenizers, rustbpe, sentencepiece; see --megabytes (ten minutes)",
        by="bench.tokenizer_costs:measure_training", takes=("rounds", "sizes"),
    ),
    "encoders": Part(
        told="text to ids in memory beside tiktoken and tokenizers (two minutes)", by="bench.tokenizer_costs:measure_encoding"
    ),
    "experts": Part(told="a training step with experts beside a python loop over them (two minutes)", by="bench.experts_step:measure"),
    "determinism": Part(
        told="a training step with and without torch's deterministic algorithms (a minute)", by="bench.determinism:measure"
    ),
    "sft": _tuned("sft", "fine-tuning beside trl and transformers"),
    "lora": _tuned("lora", "adapters beside trl and peft"),
    "dpo": _tuned("dpo", "preferences beside trl"),
    "serving": Part(
        told="answering beside transformers, vLLM and llama.cpp (make bench-serving-peers first; some minutes)", by="bench.serving:measure"
    ),
    "memory": Part(told="peaks of loading and saving a model of 1 GB (minutes)", by="bench.memory:measure"),
    "server": Part(
        told="what the server costs beside its engine, first tokens behind shared beginnings, start-up, memory (minutes)",
        by="bench.server:measure",
    ),
    "variants": Part(
        told="decoding steps with weights in codes, with adapters, beside a busy core (minutes)", by="bench.step_variants:measure"
    ),
    "estimate": Part(
        told="the memory that a dry run foresees beside the peak of training (minutes)", by="bench.memory_estimate:measure", takes=()
    ),
}  # fmt: skip
USUAL = tuple(name for name, part in PARTS.items() if part.usual)
