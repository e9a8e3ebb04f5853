"""Helpers of a thread end when it says so, and computing goes on as before; threads that others wait for rest."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from beichen.nn import kernels
from beichen.nn.kernels import decode
from beichen.nn.kernels.threads import LONGEST_REST, Crew
from tests import needs

TASKS = Path("/proc/self/task")


@needs.compiled_kernels
@pytest.mark.skipif(not TASKS.is_dir(), reason="needs /proc of Linux, which tells the threads of a process")
def test_helpers_end_and_come_again(monkeypatch):
    """In a thread of its own, which has none to begin with."""
    monkeypatch.setattr(decode, "crew", Crew())  # the process's own may rest one, where another program computes
    x, weight = torch.randn(16, 512).bfloat16(), torch.randn(1024, 512).bfloat16()
    counts, products = [], []

    def compute() -> None:
        torch.set_num_threads(4)
        for _ in range(2):
            products.append(kernels.few_row_linear(x, weight))
            counts.append(len(os.listdir(TASKS)))
            kernels.end_helpers()
            counts.append(len(os.listdir(TASKS)))

    before = torch.get_num_threads()
    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    assert counts[0] == counts[2] == counts[1] + 3 == counts[3] + 3
    assert torch.equal(*products)


class Machine:
    """Cores, some of which other programs have: a step with a thread on one of those takes ten times as long, most of it spent waiting."""

    def __init__(self, cores: int) -> None:
        self.cores = self.free = cores
        self.now = 0.0
        self.crew = Crew(most=lambda: cores, clock=lambda: self.now)

    def run(self, seconds: float) -> list[int]:
        """Sizes of the crew, step for step."""
        sizes, end = [], self.now + seconds
        while self.now < end:
            sizes.append(self.crew.size())
            fits = sizes[-1] <= max(self.free, 1)
            self.now += 0.005 if fits else 0.05
            self.crew.tell(0.1 if fits else 0.95)
        return sizes


@given(cores=st.integers(1, 64), taken=st.integers(0, 8), calm=st.floats(0, 5))
def test_a_crew_leaves_cores_to_others_and_takes_them_back(cores, taken, calm):
    """Steps with too many threads take a small share of the time, and with free cores there are no other than whole crews."""
    machine = Machine(cores)
    assert set(machine.run(calm)) <= {cores}
    machine.free = cores - taken
    machine.run(6)
    begin, fitting = machine.now, [size <= max(machine.free, 1) for size in machine.run(60)]
    assert 0.05 * fitting.count(False) <= 0.06 * (machine.now - begin)
    machine.free = cores
    machine.run(LONGEST_REST + 1)
    assert set(machine.run(calm)) <= {cores}


@given(waits=st.lists(st.floats(0, 1), max_size=200), cores=st.integers(1, 9))
def test_a_crew_is_never_empty_nor_larger_than_it_may_be(waits, cores):
    crew = Crew(most=lambda: cores, clock=lambda: 0.0)
    for waited in waits:
        crew.tell(waited)
        assert 1 <= crew.size() <= cores


def test_a_step_that_was_held_up_once_keeps_its_threads():
    crew = Crew(most=lambda: 4, clock=lambda: 0.0)
    for _ in range(20):
        crew.tell(1.0)
        assert crew.size() == 4
        for _ in range(20):
            crew.tell(0.1)
