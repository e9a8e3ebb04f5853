"""The routed experts of one layer in one call, with their gradients; float32 or bf16 in and out, float32 inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beichen.nn.kernels import build

NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def can_run_experts(*tensors: Tensor) -> bool:
    """Whether ``experts`` takes these: contiguous, on the CPU, all of one of its two number formats."""
    return tensors[0].dtype in NAMES and build.can_run(*tensors, dtype=tensors[0].dtype)


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate_up: Tensor, down: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        experts, hidden, width = down.shape
        choices = chosen.numel()
        order = chosen.new_empty(choices)  # choice t * choices of a token + c, by expert
        ends = chosen.new_empty(experts, dtype=torch.int32)
        sizes = (choices // chosen.shape[-1], chosen.shape[-1], hidden, width, experts, torch.get_num_threads())
        inner, out = x.new_empty(choices, 2 * width), torch.empty_like(x)
        active, rows = x.new_empty(choices, _stride(width)), x.new_empty(choices, hidden, dtype=torch.float32)
        run = build.function(f"experts_forward_{NAMES[x.dtype]}", "p" * 11 + " llllli")
        run(*_addresses(x, gate_up, down, weights, chosen, order, ends, inner, active, rows, out), *sizes)
        ctx.save_for_backward(x, gate_up, down, weights, order, ends, inner)
        ctx.sizes = sizes
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gate_up, down, weights, order, ends, inner = ctx.saved_tensors
        _, _, hidden, width, experts, _ = ctx.sizes
        choices, grad = len(order), grads[0].contiguous()
        lines = choices if x.dtype == torch.float32 else (choices + experts) // 2  # of words: two bf16 rows, or a last one alone
        strides = [_stride(size) for size in (2 * width, width)]
        rows_of = [x.new_empty(choices, stride) for stride in strides]
        lines_of = [x.new_empty(lines, stride, dtype=torch.int32) for stride in strides]
        panels = -(-width // 16)  # at the narrowest
        sums = [x.new_empty(rows, columns, dtype=torch.float32) for rows, columns in ((choices, hidden), (panels, choices))]
        results = [torch.empty_like(x), torch.empty_like(gate_up), torch.empty_like(down), torch.empty_like(weights)]
        run = build.function(f"experts_backward_{NAMES[x.dtype]}", "p" * 18 + " llllli")
        run(*_addresses(grad, x, gate_up, down, weights, order, ends, inner, *rows_of, *lines_of, *sums, *results), *ctx.sizes)
        d_x, d_gate_up, d_down, d_weights = results
        return d_x, d_gate_up, d_down, None, d_weights


def experts(x: Tensor, gate_up: Tensor, down: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Sum over a token's choices of weight x down(silu(gate x) * (up x)).  -> [..., hidden]

    x [..., hidden]; gate_up [experts, 2 F, hidden]; down [experts, hidden, F]; chosen [..., choices] int64, each below experts;
    weights alike, float32.
    """
    build.require(x, gate_up, down, dtype=x.dtype)
    build.require(weights, dtype=torch.float32)
    build.require(chosen, dtype=torch.int64)
    count, hidden, width = down.shape
    fits = gate_up.shape == (count, 2 * width, hidden) and x.shape[-1] == hidden
    if not fits or chosen.shape != weights.shape or chosen.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"x {tuple(x.shape)}, gate_up {tuple(gate_up.shape)}, down {tuple(down.shape)}, chosen {tuple(chosen.shape)} do not fit"
        )
    out: Tensor = _Experts.apply(x, gate_up, down, chosen, weights)
    return out


def _stride(size: int) -> int:
    """As ``stride_of`` in source/experts.cpp."""
    return (size + 31) // 32 * 32


def _addresses(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
