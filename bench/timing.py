"""Fair clocks: contenders take turns, so that a slow minute of the machine hits all of them alike; and the machine's matmul peak."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

PEAK_SIZES = (1024, 2048, 4096)


def take_turns(contenders: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of every call: each round calls all once, starting one further every round. Warm-up is the caller's."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in in_turn(list(contenders), number):
            begin = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def in_turn(names: list[str], number: int) -> list[str]:
    """All of them, beginning one further every round, so that nobody always comes after the same one."""
    shift = number % len(names)
    return names[shift:] + names[:shift]


@dataclass
class PeakMeter:
    """Times bf16 square matmuls between the rounds of a run; the peak is the best of the sizes' medians."""

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._factors = {size: torch.randn(size, size, generator=generator).bfloat16() for size in PEAK_SIZES}
        self._rates: dict[int, list[float]] = {size: [] for size in PEAK_SIZES}

    @torch.no_grad()
    def __call__(self) -> None:
        """A few readings of every size."""
        for size, matrix in self._factors.items():
            for _ in range(1 + 4096 // size):
                begin = time.perf_counter()
                torch.mm(matrix, matrix)
                self._rates[size].append(2.0 * size**3 / (time.perf_counter() - begin))

    def by_size(self) -> dict[int, float]:
        """Median FLOP/s of every size so far."""
        return {size: statistics.median(rates) for size, rates in self._rates.items()}

    def flops_per_second(self) -> float:
        """The peak so far."""
        return max(self.by_size().values())

    def readings(self) -> list[float]:
        """All readings of the size whose median is the peak, FLOP/s."""
        medians = self.by_size()
        return self._rates[max(medians, key=lambda size: medians[size])]


@torch.no_grad()
def read_bandwidth(*, megabytes: int = 512, repeats: int = 7) -> list[float]:
    """Bytes per second of summing a block larger than every cache: what reading weights once can reach."""
    block = torch.ones(megabytes * 2**20 // 4)
    rates = []
    for _ in range(repeats):
        begin = time.perf_counter()
        block.sum()
        rates.append(block.numel() * 4 / (time.perf_counter() - begin))
    return rates
