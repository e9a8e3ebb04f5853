"""Memory that is freed stays with the process where the allocator takes such a wish, and elsewhere nothing is wished."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from beichen.util import memory

PROGRAM = """
import sys
from beichen.util.memory import keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1])
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
block = bytearray(b"x") * (64 << 20)
before = resident()
del block
print(kept, before - resident())
"""
PAGES = (64 << 20) // 4096


def freed_pages(mode: str) -> tuple[str, int]:
    """What the wish answered, and how many pages went back to the system; in a process of its own, since the wish cannot be undone."""
    kept, pages = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True).stdout.split()
    return kept, int(pages)


def is_glibc() -> bool:
    return sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


@pytest.mark.skipif(not is_glibc(), reason="needs glibc")
def test_a_large_block_stays_with_the_process_that_freed_it():
    kept, pages = freed_pages("keep")
    assert kept == "True" and pages < PAGES / 10
    _, pages = freed_pages("plain")
    assert pages > PAGES / 2


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("no library is asked"))
    assert memory.keep_freed_memory() is False


def test_an_allocator_without_the_wish_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs /proc of Linux, which tells what was asked for which memory")
def test_huge_pages_are_asked_for_where_a_tensor_is_large():
    small, large = torch.empty(1 << 10), torch.empty(16 << 20)
    assert memory.ask_for_huge_pages(small) is small and memory.ask_for_huge_pages(large) is large
    flags, inside = "", False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= large.data_ptr() + large.nbytes // 2 < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            flags = line
    assert "hg" in flags.split()


SHAPES = """
import sys, torch
from beichen.util.memory import forget_old_shapes, resident_bytes
torch.set_num_threads(1)
if sys.argv[1] == "few":
    forget_old_shapes()
x, weight = torch.randn(1200, 64).bfloat16(), torch.randn(96, 64).bfloat16()
before = resident_bytes()
for rows in range(100, 1100):
    torch.nn.functional.linear(x[:rows], weight)
print(resident_bytes() - before)
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available() or not sys.platform.startswith("linux"), reason="needs oneDNN on Linux")
def test_a_thousand_shapes_are_not_all_remembered():
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_CACHE_CAPACITY")}  # served tests leave theirs
    every, few = (
        int(subprocess.run([sys.executable, "-c", SHAPES, mode], capture_output=True, text=True, check=True, env=environment).stdout)
        for mode in ("every", "few")
    )
    assert few < every / 2 or every < 32 << 20, "a torch that keeps little anyway"
