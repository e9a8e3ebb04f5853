"""Training speed beside transformers: the same model, weights and data, taking turns in one process.

Prints tokens per second, the share of the machine's bf16 matmul peak, and the ratios; gives the records.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable

from bench.records import BenchResult, Run
from bench.timing import PeakMeter, take_turns
from bench.trainers import Contender, contenders
from bench.workload import BATCH_ROWS, SEQUENCE_LENGTH, random_batch, reference_config, training_flops_per_token

LOSS_TOLERANCE = 5e-3  # nats; bf16 rounding of one forward over equal weights


def measure(run: Run, *, rounds: int = 7, compiled: bool = False, only: tuple[str, ...] = ()) -> list[BenchResult]:
    """Records of every contender's step. Raises AssertionError when first losses differ: then the models were not the same."""
    config = reference_config()
    tokens = BATCH_ROWS * SEQUENCE_LENGTH
    flops_per_token = training_flops_per_token(config, SEQUENCE_LENGTH)
    makers = {name: maker for name, maker in contenders(compiled=compiled).items() if not only or name in only}
    entrants = [maker(config) for maker in makers.values()]
    _check_first_losses(entrants, [entrant.step(random_batch(config, 0)) for entrant in entrants])
    for entrant in entrants:
        entrant.step(random_batch(config, 1))

    peak = PeakMeter()
    clocked: dict[str, Callable[[], object]] = {entrant.name: _feed(entrant) for entrant in entrants}
    seconds = take_turns(clocked | {"peak": peak}, rounds=rounds)

    flops = peak.flops_per_second()
    records = [run.record("training", "matmul peak, bf16", [reading / 1e9 for reading in peak.readings()], "GFLOP/s")]
    for entrant in entrants:
        speeds = [tokens / value for value in seconds[entrant.name]]
        share = statistics.median(speeds) * flops_per_token / flops
        records.append(
            run.record(
                "training", entrant.name, speeds, "tok/s", ceiling=flops / flops_per_token, settings=entrant.settings,
                details={"share of peak": share, "seconds per step": statistics.median(seconds[entrant.name])},
            )
        )  # fmt: skip
    return records


def _feed(entrant: Contender) -> Callable[[], object]:
    config, numbers = reference_config(), itertools.count(2)
    return lambda: entrant.step(random_batch(config, next(numbers)))


def _check_first_losses(entrants: list[Contender], losses: list[float]) -> None:
    for entrant, loss in zip(entrants, losses, strict=True):
        if abs(loss - losses[0]) > LOSS_TOLERANCE:
            raise AssertionError(f"first loss of {entrant.name} is {loss:.5f}, of {entrants[0].name} {losses[0]:.5f}: not the same model")
