"""SwiGLU on rows of [gate, up], with its gradient; bf16 in and out, float32 inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beichen.nn.kernels import build


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        size = gate_up.shape[-1] // 2
        out = gate_up.new_empty(*gate_up.shape[:-1], size)
        run = build.function("swiglu_forward", "pp lli")
        run(gate_up.data_ptr(), out.data_ptr(), out.numel() // size, size, torch.get_num_threads())
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        size, grad, d_gate_up = gate_up.shape[-1] // 2, grads[0].contiguous(), torch.empty_like(gate_up)
        run = build.function("swiglu_backward", "ppp lli")
        run(gate_up.data_ptr(), grad.data_ptr(), d_gate_up.data_ptr(), grad.numel() // size, size, torch.get_num_threads())
        return d_gate_up


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up.  [..., 2 F], gate first -> [..., F]"""
    build.require(gate_up)
    if gate_up.shape[-1] % 2:
        raise ValueError(f"gate_up has {gate_up.shape[-1]} columns: expected an even number, gate then up")
    out: Tensor = _Swiglu.apply(gate_up)
    return out
