"""Optimizer steps in one pass over memory: AdamW, the two halves of Muon around its orthogonalisation, and the norm for clipping.

Gradients are bf16 or float32 and are multiplied by ``gradient_scale`` as they are read. ``master`` and moments are float32.
``parameter`` is the bf16 copy that is rounded from the new master, or None where the master itself is the parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from beichen.nn.kernels import build

_BLOCK = 1 << 14  # elements per partial sum; the same constant stands in source/optimizer.cpp


def can_step(*tensors: Tensor | None) -> bool:
    """Whether the steps take these tensors (contiguous, CPU, bf16 or float32)."""
    return all(t is None or t.dtype in (torch.bfloat16, torch.float32) for t in tensors) and build.can_run(*tensors, dtype=None)


def _check(gradient: Tensor | None, floats: tuple[Tensor, ...], halves: tuple[Tensor | None, ...]) -> None:
    build.require(*floats, dtype=torch.float32)
    build.require(*halves)
    if gradient is not None:
        build.require(gradient, dtype=torch.float32 if gradient.dtype == torch.float32 else torch.bfloat16)
    sizes = {t.numel() for t in (gradient, *floats, *halves) if t is not None}
    if len(sizes) != 1:
        raise ValueError(f"tensors of one step have {sorted(sizes)} elements: expected one size")


@torch.no_grad()
def adamw_step(
    parameter: Tensor | None, gradient: Tensor, master: Tensor, first: Tensor, second: Tensor, *,
    learning_rate: float, beta1: float, beta2: float, epsilon: float, weight_decay: float, step: int, gradient_scale: float = 1.0,
) -> None:  # fmt: skip
    """One AdamW step, ``step`` counted from 1: decoupled decay, bias-corrected moments."""
    _check(gradient, (master, first, second), (parameter,))
    run = build.function("adamw", "pippp pl fffffff i")
    run(
        gradient.data_ptr(), int(gradient.dtype == torch.float32), master.data_ptr(), first.data_ptr(), second.data_ptr(),
        None if parameter is None else parameter.data_ptr(), master.numel(), gradient_scale, beta1, beta2, epsilon,
        learning_rate / (1.0 - beta1**step), 1.0 - learning_rate * weight_decay, 1.0 / math.sqrt(1.0 - beta2**step),
        torch.get_num_threads(),
    )  # fmt: skip


@torch.no_grad()
def muon_direction(gradient: Tensor, momentum: Tensor, direction: Tensor, *, factor: float, gradient_scale: float = 1.0) -> None:
    """momentum <- lerp(momentum, gradient, 1 - factor); direction (bf16) <- lerp(gradient, momentum, factor), Nesterov's look ahead."""
    _check(gradient, (momentum,), (direction,))
    run = build.function("muon_direction", "pippl ffi")
    is_float = int(gradient.dtype == torch.float32)
    pointers = (gradient.data_ptr(), is_float, momentum.data_ptr(), direction.data_ptr())
    run(*pointers, momentum.numel(), gradient_scale, factor, torch.get_num_threads())


@torch.no_grad()
def muon_apply(parameter: Tensor | None, update: Tensor, master: Tensor, *, rate: float, decay: float = 0.0) -> None:
    """master <- master * (1 - decay) - rate * update (bf16), and its rounded copy into the parameter."""
    _check(None, (master,), (update, parameter))
    run = build.function("muon_apply", "pppl ffi")
    run(
        update.data_ptr(), master.data_ptr(), None if parameter is None else parameter.data_ptr(), master.numel(),
        rate, 1.0 - decay, torch.get_num_threads(),
    )  # fmt: skip


@torch.no_grad()
def round_stochastically(values: Tensor, out: Tensor, *, key: int, first: int = 0) -> None:
    """float32 into bf16, up or down by random words of ``key`` and place; see ``nn.stochastic_rounding``."""
    _check(None, (values,), (out,))
    if not 0 <= key < 1 << 63:
        raise ValueError(f"key={key}: must have at most 63 bits")
    run = build.function("round_stochastically", "pp lll i")
    run(values.data_ptr(), out.data_ptr(), values.numel(), first, key, torch.get_num_threads())


@torch.no_grad()
def sum_of_squares(tensors: Iterable[Tensor]) -> float:
    """Sum over all elements of all tensors, in float32 per block of 16,384 and float64 beyond."""
    run, total = build.function("squares", "pip li"), 0.0
    for tensor in tensors:
        _check(tensor, (), ())
        sums = torch.empty(-(-tensor.numel() // _BLOCK), dtype=torch.float64)
        run(tensor.data_ptr(), int(tensor.dtype == torch.float32), sums.data_ptr(), tensor.numel(), torch.get_num_threads())
        total += math.fsum(sums.tolist())
    return total
