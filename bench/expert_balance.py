"""python -m bench.expert_balance FILE... [--steps 200] [--out DIR]: how evenly experts are used with and without balancing.

A mixture of NDL's proportions, scaled down, learns the same text three times: nothing asked of its choices, the published auxiliary loss,
and moving biases. Written to DIR: the runs, ``expert_balance.png`` with the load of the busiest expert at every step, and the table that
is also printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.train.metrics import read_metrics
from beichen.train.result import TrainResult
from beichen.train.run import train
from beichen.train.run_folder import METRICS
from bench.experts_step import CHOICES, EXPERTS

VARIANTS: dict[str, dict[str, Any]] = {
    "no balancing": {"balance_factor": 0.0},
    "auxiliary loss 0.01": {"balance_factor": 0.01},
    "biases 0.001": {"balance_factor": 0.0, "bias_rate": 0.001},
}
PICTURE, TABLE = "expert_balance.png", "expert_balance.md"
LAST = 20  # steps that the table's means are of


@dataclass(frozen=True, kw_only=True)
class Balance:
    """One run: by step, the load of the busiest expert over the even load, its mean over the layers; and what the run reached."""

    busiest: list[float]
    idle: float  # share of experts, in the last steps, that get less than a tenth of the even load
    entropy: float  # of a token's scores, in nats, mean over layers and the last steps
    result: TrainResult


def recipe(files: Sequence[str], out: Path, steps: int, asked: dict[str, Any]) -> dict[str, Any]:
    """A minute of training on two cores, for two hundred steps."""
    experts = {
        "num_experts": EXPERTS, "num_experts_per_token": CHOICES, "intermediate_size": 64, "shared_intermediate_size": 128,
        "first_dense_layers": 1, "balance_form": "sequence",
    }  # fmt: skip
    sizes = {"hidden_size": 128, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 9 * 128}
    return {
        "out": str(out), "model": {"family": "ndl", **sizes, "experts": experts}, "experts_training": asked,
        "tokenizer": {"vocab_size": 2048}, "data": {"files": list(files), "sequence_length": 128},
        "batch": {"rows_per_step": 16, "rows_per_micro_batch": 16}, "optimizer": {"name": "adamw", "learning_rate": 2e-3},
        "schedule": {"name": "stable", "warmup": 0.05}, "budget": {"steps": steps},
    }  # fmt: skip


def measure(files: Sequence[str], out: Path, *, steps: int) -> dict[str, Balance]:
    """Train every variant in a folder of its own, one after another; a folder that holds a finished run is an error."""
    found = {}
    for name, asked in VARIANTS.items():
        folder = out / name.replace(" ", "-")
        print(name, file=sys.stderr, flush=True)
        result = train(recipe(files, folder, steps, asked))
        records = read_metrics(folder / METRICS)
        loads = [[[EXPERTS * share for share in layer] for layer in record["expert_load"]] for record in records]
        last = [share for step in loads[-LAST:] for layer in step for share in layer]
        entropies = [value for record in records[-LAST:] for value in record["router_entropy"]]
        found[name] = Balance(
            busiest=[sum(map(max, layers)) / len(layers) for layers in loads],
            idle=sum(share < 0.1 for share in last) / len(last),
            entropy=sum(entropies) / len(entropies),
            result=result,
        )
    return found


def as_table(found: dict[str, Balance]) -> str:
    """Markdown; means over the last steps."""
    lines = [
        "| asked of the choices | busiest expert, of the even load | idle experts | router entropy (nats) | held-out bits per byte |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, balance in found.items():
        last = balance.busiest[-LAST:]
        bits = balance.result.bits_per_byte
        assert bits is not None
        lines.append(f"| {name} | {sum(last) / len(last):.2f} x | {balance.idle:.0%} | {balance.entropy:.2f} | {bits:.3f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, draw, print."""
    from beichen.evaluation.plots import plot_curves

    parser = argparse.ArgumentParser(prog="python -m bench.expert_balance", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="text, as for `beichen train`")
    parser.add_argument("--steps", type=int, default=200, help="of every run (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/expert-balance"), help="folder (default %(default)s)")
    options = parser.parse_args(arguments)
    found = measure(options.files, options.out, steps=options.steps)
    curves = {name: (range(1, len(balance.busiest) + 1), balance.busiest) for name, balance in found.items()}
    plot_curves(
        options.out / PICTURE, curves, title=f"Load of the busiest of {EXPERTS} experts, mean over layers (1: all are used alike)",
        x_label="step", y_label="times the even load", smooth=0.8,
    )  # fmt: skip
    table = as_table(found)
    (options.out / TABLE).write_text(table + "\n", encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
