"""What the backward pass computes a second time instead of finding it in memory.

In: a function of tensors. Out: the same values and, bit for bit, the same gradients; only the inputs stay in memory until the backward
pass asks. Dropout draws the same masks again. What the function computes beside its values must not be kept from the second time.

Three ways, by name:

- ``nothing``: all that the backward pass needs is kept.
- ``selective``: norms and the products of SwiGLU are computed again. They are read and written once by elementwise arithmetic, so this
  costs little; queries, keys, values, the heads' outputs and gate and up, which cost matrix products, are kept. A mixture's router and
  routed experts keep what they need.
- ``layer``: only what enters each layer is kept, and the whole layer is computed again: about a third more arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args

import torch
from torch.utils.checkpoint import checkpoint

Recompute = Literal["nothing", "selective", "layer"]
WAYS: tuple[Recompute, ...] = get_args(Recompute)

T = TypeVar("T")


def recomputed(function: Callable[..., T], *inputs: Any) -> T:
    """function(*inputs), to be computed again for its gradient, with the random numbers that it took the first time."""
    if not torch.is_grad_enabled():
        return function(*inputs)
    found: T = checkpoint(function, *inputs, use_reentrant=False)
    return found
