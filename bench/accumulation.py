"""python -m bench.accumulation: the gradients of one step, cut into 1, 2, 4 and 8 micro-batches of unequal target counts, compared.

For each objective the same eight rows (and a last, partial step of five) run through the training step in float32. Printed is the largest
difference of any gradient from that of a single micro-batch, divided by the largest gradient of the same tensor. Batch and expert forms of
the balance loss and a capacity depend on the micro-batch by definition (docs/experts.md) and are not here.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beichen.config import read_settings
from beichen.train.expert_balancing import set_experts_training
from beichen.train.learning import begin_learning
from beichen.train.preparation import prepare
from beichen.train.settings import TrainRecipe
from beichen.train.step import gather
from beichen.util.progress import SILENT
from bench.training_variants import make_material, variants

ROWS, LAST = 8, 5
MICRO_BATCHES = (1, 2, 4, 8)
BOUND = 1e-6  # float32's own rounding of a sum is 6e-8 of its largest part; sums of some tens of parts come close to this


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="beichen-accumulation-") as place:
        return compare_all(Path(place))


def compare_all(place: Path) -> int:
    """Print the table.  -> exit code"""
    given = variants(make_material(place / "material"))
    sparse = {**given["experts"], "experts_training": {"balance_factor": 0.05, "balance_form": "sequence", "z_loss_factor": 0.01}}
    cases = {
        "text": given["float32"],
        "dialogues (SFT)": given["dialogues"],
        "preferences (DPO)": given["preferences"],
        "dropless experts, z-loss, sequence form": sparse,
    }
    worst = 0.0
    print(f"{'objective':<42} {'step':<8}" + "".join(f"{count:>12}" for count in MICRO_BATCHES[1:]) + "   targets of the 8")
    for name, recipe in cases.items():
        for step, rows in (("whole", ROWS), ("last", LAST)):
            single, _ = gradients(recipe, place / f"{name}-{step}-1", rows, 1)
            found = []
            for count in MICRO_BATCHES[1:]:
                cut, targets = gradients(recipe, place / f"{name}-{step}-{count}", rows, count)
                found.append(largest_difference(single, cut))
            worst = max(worst, *found)
            print(f"{name:<42} {step:<8}" + "".join(f"{value:>12.1e}" for value in found) + f"   {targets}", flush=True)
    print(f"largest: {worst:.1e} (bound {BOUND:g})")
    return 0 if worst <= BOUND else 1


def gradients(recipe: Mapping[str, Any], out: Path, rows: int, micro_batches: int) -> tuple[dict[str, Tensor], list[int]]:
    """Of the first step of ``rows`` rows, divided as the optimizer divides them, and the targets of each micro-batch."""
    batch = {"rows_per_step": ROWS, "rows_per_micro_batch": ROWS // micro_batches}
    whole: TrainRecipe = read_settings(
        TrainRecipe, {**recipe, "out": str(out), "batch": batch, "budget": {"samples": rows}}, name="bench.accumulation"
    )
    torch.set_num_threads(1)
    parts = prepare(whole, device=torch.device("cpu"), dtype=torch.float32, reporter=SILENT)
    set_experts_training(parts.decoder, whole.experts_training, family=parts.family)
    learning = begin_learning(whole, parts, out, begun=False, reporter=SILENT)
    batches = parts.material.plan.stages.micro_batches(0)
    parts.decoder.train()
    gathered = gather(parts.decoder, batches, learning.objective, seed=0, step=0)
    found = {
        name: parameter.grad / gathered.target_weight for name, parameter in parts.decoder.named_parameters() if parameter.grad is not None
    }
    return found, [one.target_count for one in batches]


def largest_difference(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float:
    """max over tensors of max|left - right| / max|left|."""
    return max(float((tensor - right[name]).abs().max() / tensor.abs().max().clamp_min(1e-30)) for name, tensor in left.items())


if __name__ == "__main__":
    sys.exit(main())
