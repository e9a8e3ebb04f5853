"""float16 is for accelerators; the loss scale halves at once, doubles slowly, and stays within its bounds."""

from __future__ import annotations

import pytest
import torch

from beichen.errors import DeviceError
from beichen.train.precision import GROW_AFTER, LARGEST, SMALLEST, LossScale, training_dtype


def test_float16_is_refused_on_the_cpu_with_the_reason():
    with pytest.raises(DeviceError, match="slower than float32") as fault:
        training_dtype("float16", torch.device("cpu"))
    assert "bfloat16 or float32" in str(fault.value)
    assert training_dtype("float16", torch.device("cuda")) == torch.float16
    assert training_dtype("float32", torch.device("cpu")) == torch.float32


def test_the_scale_halves_at_once_and_doubles_slowly():
    scale = LossScale()
    begin = scale.factor
    for _ in range(GROW_AFTER - 1):
        scale.grow()
    assert scale.factor == begin
    scale.grow()
    assert scale.factor == 2 * begin
    for _ in range(GROW_AFTER - 1):
        scale.grow()
    assert scale.lower() and scale.factor == begin
    scale.grow()
    assert scale.factor == begin  # the count began anew


def test_the_scale_has_bounds():
    scale = LossScale()
    while scale.lower():
        pass
    assert scale.factor == SMALLEST
    for _ in range(GROW_AFTER * 60):
        scale.grow()
    assert scale.factor == LARGEST
