"""The memory that `beichen train --dry-run` foresees, beside the peak that training then reaches, each run in a process of its own.

The peak is the resident set that the system reports (VmHWM), above the process with its imports and the loaded tokenizer and text.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.memory import forget_peak, resident
from bench.records import BenchResult, Run

STEPS = 3
MODEL = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 1408}
ADAMW = {"name": "adamw"}
EXPERTS = {"num_experts": 8, "num_experts_per_token": 2, "intermediate_size": 704}
SETTINGS: dict[str, dict[str, Any]] = {
    "Muon, bf16": {},
    "AdamW, float32": {"dtype": "float32", "optimizer": ADAMW},
    "AdamW, bf16, layers computed again": {"optimizer": ADAMW, "recompute": "layer"},
    "AdamW, pure bf16, 4 micro-batches": {
        "optimizer": {**ADAMW, "master_weights": False}, "batch": {"rows_per_step": 16, "rows_per_micro_batch": 4},
    },
    "experts, AdamW, bf16": {"model": {**MODEL, "family": "ndl", "num_hidden_layers": 4, "experts": EXPERTS}, "optimizer": ADAMW},
    "Muon, float32, selective, 6 narrower layers": {
        "dtype": "float32", "recompute": "selective",
        "model": {**MODEL, "hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1024},
    },
    "AdamW, bf16, rows of 1024": {
        "optimizer": ADAMW, "batch": {"rows_per_step": 8, "rows_per_micro_batch": 4},
        "data": {"sequence_length": 1024},
    },
}  # fmt: skip

WIDER = {**MODEL, "hidden_size": 1024, "intermediate_size": 2816}  # a base: what adapters are beside full training
TUNING = {"optimizer": ADAMW, "batch": {"rows_per_step": 2, "rows_per_micro_batch": 2}}
ADAPTED: dict[str, dict[str, Any]] = {
    "of a base: all weights, AdamW, bf16": TUNING,
    "of a base: LoRA": {**TUNING, "lora": {"rank": 16}},
    "of a base: LoRA on int8": {**TUNING, "lora": {"rank": 16, "base_format": "int8"}},
    "of a base: LoRA on NF4": {**TUNING, "lora": {"rank": 16, "base_format": "nf4"}},
}


def recipe_of(folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """A run of a few steps on random words in ``folder``."""
    return {
        "out": str(folder / "run"), "model": MODEL, "tokenizer": {"vocab_size": 8000},
        "batch": {"rows_per_step": 16, "rows_per_micro_batch": 16}, "budget": {"steps": STEPS}, "dtype": "bfloat16", "device": "cpu",
        "threads": 2, **changes,
        "data": {"sequence_length": 512, **changes.get("data", {}), "files": [str(folder / "text.jsonl")], "held_out_fraction": 0.0},
    }  # fmt: skip


def write_text(folder: Path) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 9))) for _ in range(20_000)]
    lines = (json.dumps({"text": " ".join(rng.choices(words, k=200))}) + "\n" for _ in range(2000))
    (folder / "text.jsonl").write_text("".join(lines), encoding="utf-8")


def measure(run: Run) -> list[BenchResult]:
    """A record for each setting: the measured peak, and the estimate as a share of it."""
    found = []
    with tempfile.TemporaryDirectory(prefix="beichen-estimate-") as place:
        write_text(Path(place))
        base = str(Path(place) / "base")
        write_base(recipe_of(Path(place), {"model": WIDER, **TUNING}) | {"out": base})
        for name, changes in (SETTINGS | {name: {**recipe, "model": {"start_from": base}} for name, recipe in ADAPTED.items()}).items():
            recipe = recipe_of(Path(place), changes)
            answer = subprocess.run(
                [sys.executable, "-m", "bench.memory_estimate", json.dumps(recipe)], capture_output=True,
                text=True, encoding="utf-8", check=False,
            )  # fmt: skip
            if answer.returncode:
                raise RuntimeError(f"bench.memory_estimate, {name}: {answer.stderr.strip()[-2000:]}")
            figures = json.loads(answer.stdout.splitlines()[-1])
            found.append(
                run.record(
                    "memory estimate", name, [figures["measured"] / 1e6], "MB", settings=f"{STEPS} steps; estimate beside it",
                    details={"estimate MB": figures["estimate"] / 1e6, "estimate / measured": figures["estimate"] / figures["measured"]},
                )
            )  # fmt: skip
    return found


def write_base(recipe: dict[str, Any]) -> None:
    """A model of one step, made by a process of its own."""
    code = "import json, sys; from beichen.train.run import train; train(json.loads(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, json.dumps({**recipe, "budget": {"steps": 1}})], check=True)


def compare(recipe: dict[str, Any]) -> dict[str, int]:
    """Estimate and peak of one recipe; a tiny run before it imports and reads what any run does."""
    import shutil

    import torch

    from beichen.train.run import dry_run, train

    out, first = Path(recipe["out"]), Path(recipe["out"] + "-first")
    for folder in (out, first):
        shutil.rmtree(folder, ignore_errors=True)
    estimate = dry_run(recipe)[1]
    model = MODEL if "start_from" in recipe["model"] else recipe["model"]
    small = {**recipe, "model": {**model, "hidden_size": 64, "num_hidden_layers": 1}, "lora": None}
    train({**small, "out": str(first), "budget": {"steps": 1}, "batch": {"rows_per_step": 1, "rows_per_micro_batch": 1}})
    torch.empty(1).normal_()
    before = resident()
    forget_peak()
    train(recipe)
    return {"estimate": estimate.peak, "measured": resident("VmHWM") - before}


if __name__ == "__main__":
    print(json.dumps(compare(json.loads(sys.argv[1]))))
