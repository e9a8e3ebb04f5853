"""Random numbers drawn by key (seed, purpose, index), never by the order of calls.

So a sample's numbers are the same after a resume, in another worker, or on another number of machines.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def keyed_seed(seed: int, purpose: str, index: int) -> int:
    """A 63-bit seed; different keys give independent ones. ``purpose`` is free text, such as 'shuffle'."""
    key = f"{seed}\0{purpose}\0{index}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def keyed_generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """A numpy generator for this key, counter-based (Philox): the same numbers on every machine."""
    return np.random.Generator(np.random.Philox(keyed_seed(seed, purpose, index)))


def keyed_torch_generator(seed: int, purpose: str, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for this key."""
    import torch

    return torch.Generator(device).manual_seed(keyed_seed(seed, purpose, index))
