"""Marks of tests that need what not every machine has; each skip says what was missing."""

from __future__ import annotations

import os
import shutil

import pytest

from beichen.nn import kernels

compiled_kernels = pytest.mark.skipif(not kernels.status().available, reason=kernels.status().reason)
make = pytest.mark.skipif(shutil.which("make") is None, reason="needs the program make, which is not on the PATH")


def need_compiled_kernels() -> None:
    """The same for one case of a test."""
    if not kernels.status().available:
        pytest.skip(kernels.status().reason)


def vllm_python() -> str:
    """The interpreter of an environment that has vLLM."""
    found = os.environ.get("BEICHEN_TEST_VLLM_PYTHON")
    if found is None:
        pytest.skip("needs vLLM, which brings a torch of its own: BEICHEN_TEST_VLLM_PYTHON names an interpreter that has it")
    return found
