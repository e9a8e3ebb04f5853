"""A key-value cache of one stretch a row: the plain one, to decode a few rows of like length and to hold the paged one against.

Keys are stored rotated, so one rope rule must hold for the whole life of a cache (``rope_length`` of the forward).
"""

from __future__ import annotations

import torch
from torch import Tensor

from beichen.nn.attention import attention
from beichen.nn.attention_backends import split_heads
from beichen.nn.config import DecoderConfig
from beichen.nn.places import Places
from beichen.nn.rope import rotate
from beichen.nn.visibility import visible


class DenseCache:
    """A ``Cache`` of fixed capacity: [rows, key_value_heads, capacity, head_dim] for keys and for values of every layer.

    ``length`` columns are filled; every row has the same number, so shorter prompts are padded on the left.
    """

    def __init__(self, config: DecoderConfig, *, rows: int, capacity: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, capacity, config.head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.capacity, self.length = capacity, 0
        self._mask: Tensor | None = None

    def attend(self, layer: int, qkv: Tensor, places: Places) -> Tensor:
        keys, values = self.layer(layer, tokens=qkv.shape[1])
        kv_heads, _, head_dim = keys.shape[1:]
        query, key, value = split_heads(qkv, kv_heads, head_dim)
        keys, values = self.append(layer, rotate(key, places.cos, places.sin), value)
        mask = None if places.first_visible is None and self.length == 0 else self.mask(places.first_visible, qkv.shape[1])
        return attention(rotate(query, places.cos, places.sin), keys, values, places.first_visible, past=self.length, mask=mask)

    def layer(self, layer: int, *, tokens: int) -> tuple[Tensor, Tensor]:
        """The blocks of one layer, keys and values, once it is sure that ``tokens`` more columns fit."""
        if self.length + tokens > self.capacity:
            raise ValueError(f"cache of {self.capacity} columns is full: {self.length + tokens} asked for")
        return self.keys[layer], self.values[layer]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store [rows, tokens, key_value_heads, head_dim] behind ``length``; give all columns so far, [rows, kv_heads, columns, head_dim].

        ``length`` itself grows once a forward, in ``advance``, so that every layer writes to the same columns.
        """
        self.layer(layer, tokens=keys.shape[1])
        end = self.length + keys.shape[1]
        self.keys[layer, :, :, self.length : end] = keys.transpose(1, 2)
        self.values[layer, :, :, self.length : end] = values.transpose(1, 2)
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, tokens: int) -> None:
        self.length += tokens
        self._mask = None

    def mask(self, first_visible: Tensor | None, tokens: int) -> Tensor | None:
        """Who sees whom among ``tokens`` new columns and all columns so far, [rows or 1, 1, tokens, columns] bool; None: everyone sees all.

        Made once a forward and kept until ``advance``: it is the same for every layer.
        """
        if first_visible is None and tokens == 1:
            return None
        if self._mask is None:
            starts = torch.zeros(1, tokens, dtype=torch.int32, device=self.keys.device) if first_visible is None else first_visible
            self._mask = visible(starts, past=self.length, columns=self.length + tokens)
        return self._mask
