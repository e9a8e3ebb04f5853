"""A compiler is optional: without g++, or switched off, there is a reason, at most one warning, and no kernel runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from beichen.nn import kernels

PROGRAM = """
import warnings
warnings.simplefilter("always")
import torch
from beichen.nn import kernels
with warnings.catch_warnings(record=True) as caught:
    runs = [kernels.can_run(torch.zeros(2, dtype=torch.bfloat16)) for _ in range(3)]
print(runs, kernels.status().reason, len(caught), sep="|")
"""


def run(**environment: str) -> tuple[str, str, str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=True)
    runs, reason, warned = done.stdout.strip().split("|")
    return runs, reason, warned


def test_no_compiler_is_a_reason_and_one_warning(tmp_path: Path) -> None:
    assert run(PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path), BEICHEN_KERNELS="") == (
        "[False, False, False]", "no compiler: g++ not found", "1",
    )  # fmt: skip


def test_switched_off_by_the_environment_is_silent() -> None:
    assert run(BEICHEN_KERNELS="off") == ("[False, False, False]", "switched off by BEICHEN_KERNELS=off", "0")


def test_a_failing_compiler_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "g++").write_text('#!/bin/sh\n[ "$1" = --version ] && echo broken && exit 0\necho "error: no disk" >&2\nexit 1\n')
    (tmp_path / "g++").chmod(0o755)
    _, reason, warned = run(PATH=f"{tmp_path}:/bin:/usr/bin", XDG_CACHE_HOME=str(tmp_path / "cache"), BEICHEN_KERNELS="")
    assert "error: no disk" in reason and warned == "1"
    assert not list(tmp_path.glob("cache/**/*.so"))


def test_an_unwritable_cache_is_a_reason(tmp_path: Path) -> None:
    if not kernels.status().compiler:
        pytest.skip("no compiler on this machine")
    (tmp_path / "file").write_text("in the way")
    _, reason, _ = run(XDG_CACHE_HOME=str(tmp_path / "file"), BEICHEN_KERNELS="")
    assert "XDG_CACHE_HOME" in reason


def test_switched_off_inside_a_block() -> None:
    before = kernels.library()
    with kernels.switched_off():
        assert kernels.library() is None and not kernels.status().available
    assert kernels.library() is before


@pytest.mark.skipif(not kernels.status().available, reason=kernels.status().reason)
def test_can_run_asks_for_contiguous_bf16() -> None:
    tensor = torch.zeros(4, 6, dtype=torch.bfloat16)
    assert kernels.can_run(tensor, None) and not kernels.can_run(tensor.T) and not kernels.can_run(tensor.float())
