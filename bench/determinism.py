"""What torch's deterministic algorithms cost on the CPU, where training has them on: the same steps with and without them, by turns.

The dense step is the one of ``training_step`` (our trainer: clipping and AdamW included), the one with experts that of ``experts_step``
(forward and backward), both with our kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from beichen.util.device import repeatable
from bench.experts_step import Shape, step_of
from bench.records import BenchResult, Run
from bench.timing import take_turns
from bench.trainers import our_trainer
from bench.verdicts import DEFAULT, DETERMINISTIC
from bench.workload import BATCH_ROWS, SEQUENCE_LENGTH, random_batch, reference_config

EXPERTS = Shape(200, 128, 4, 128)


def both_ways(label: str, step: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """The step under both settings, by name."""

    def deterministic() -> object:
        with repeatable(torch.device("cpu")):
            return step()

    return {f"{label}: {DETERMINISTIC}": deterministic, f"{label}: {DEFAULT}": step}


def measure(run: Run, *, rounds: int = 5) -> list[BenchResult]:
    """Records of every step under both settings."""
    config = reference_config()
    ids, dense = random_batch(config, 0), our_trainer(config)
    mixed = EXPERTS.decoder(torch.bfloat16)
    with_experts = step_of(mixed, random_batch(mixed.config, 0, rows=EXPERTS.rows, tokens=EXPERTS.tokens))
    found: list[BenchResult] = []
    for label, settings, tokens, turns, step in (
        ("dense, 42M", dense.settings, BATCH_ROWS * SEQUENCE_LENGTH, 1, lambda: dense.step(ids)),
        (f"experts, {EXPERTS}", "bf16, forward and backward", EXPERTS.rows * EXPERTS.tokens, 4 * EXPERTS.turns, with_experts),
    ):
        contenders = both_ways(label, step)
        for contender in contenders.values():
            contender()
        for name, seconds in take_turns(contenders, rounds=rounds * turns).items():
            found.append(run.record("determinism", name, [tokens / value for value in seconds], "tok/s", settings=settings))
    return found
