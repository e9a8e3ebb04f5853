"""The key-value cache: an argument of the decoder's forward, never part of it.

Keys are stored rotated, so one rope rule must hold for the whole life of a cache (``rope_length`` of the forward).
"""

from __future__ import annotations

import torch
from torch import Tensor

from beichen.nn.config import DecoderConfig


class KeyValueCache:
    """A block of fixed capacity: [rows, key_value_heads, capacity, head_dim] for keys and for values of every layer.

    ``length`` columns are filled; every row has the same number, so shorter prompts are padded on the left.
    """

    def __init__(self, config: DecoderConfig, *, rows: int, capacity: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.capacity, self.length = capacity, 0

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store [rows, tokens, key_value_heads, head_dim] behind ``length``; give all columns so far, [rows, kv_heads, columns, head_dim].

        ``length`` itself grows once a forward, in ``advance``, so that every layer writes to the same columns.
        """
        end = self.length + keys.shape[1]
        if end > self.capacity:
            raise ValueError(f"cache of {self.capacity} tokens is full: {end} asked for")
        self.keys[layer, :, :, self.length : end] = keys.transpose(1, 2)
        self.values[layer, :, :, self.length : end] = values.transpose(1, 2)
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, tokens: int) -> None:
        """Say that every layer has stored ``tokens`` new columns."""
        self.length += tokens

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with these rows only (those that have not finished)."""
        self.keys = self.keys[:, rows].contiguous()
        self.values = self.values[:, rows].contiguous()
