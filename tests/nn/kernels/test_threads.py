"""Helpers of a thread end when it says so, and computing goes on as before."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from beichen.nn import kernels
from tests import needs

TASKS = Path("/proc/self/task")


@needs.compiled_kernels
@pytest.mark.skipif(not TASKS.is_dir(), reason="needs /proc of Linux, which tells the threads of a process")
def test_helpers_end_and_come_again():
    """In a thread of its own, which has none to begin with."""
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
