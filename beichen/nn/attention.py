"""Causal attention in which every query sees one interval of columns.

Query column c of row r sees key columns ``first_visible[r, c] .. c``. That one array expresses causal rows (0), left
padding (the first real column) and packed documents (the column where the own document begins), so no mask of
[tokens, tokens] is ever an argument. Whole rows are attended in one of several ways (``attention_backends``), equal by test.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn.attention_backends import Call, attend, split_heads
from beichen.nn.config import DecoderConfig
from beichen.nn.linear import Linear
from beichen.nn.norms import Norm
from beichen.nn.places import Places
from beichen.nn.visibility import visible


def query_scale(positions: Tensor, length: int) -> Tensor:
    """Scores grow with the logarithm of the number of keys beyond ``length``: ln(position + 1) / ln(length), else 1.  -> like positions"""
    return ((positions.float() + 1.0).log() / math.log(length)).clamp(min=1.0)


class Cache(Protocol):
    """What attention and the decoder ask of earlier columns: an argument of the forward, never part of a model."""

    length: int  # columns before the next one; where positions begin, unless they are given

    def attend(self, layer: int, qkv: Tensor, places: Places) -> Tensor:
        """Keep the new columns' keys and values; let their queries see them and those before.

        qkv [rows, tokens, (heads + 2 key_value_heads) * head_dim], not yet rotated.  -> [rows, tokens, heads * head_dim]
        """

    def advance(self, tokens: int) -> None:
        """Every layer has kept ``tokens`` new columns: the next ones come behind them."""


def attention(
    query: Tensor, key: Tensor, value: Tensor, first_visible: Tensor | None, *,
    past: int = 0, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """softmax(q k / sqrt(d)) v over the visible interval, as caches compute it; query head h reads key/value head h // group.

    query [rows, tokens, heads, head_dim]; key, value [rows, key_value_heads, past + tokens, head_dim];
    first_visible [rows, tokens] or None (all from column 0); mask: ``visible`` of it, if at hand.
    -> [rows, tokens, heads * head_dim]
    """
    rows, tokens, heads, head_dim = query.shape
    causal_only = first_visible is None and past == 0
    if mask is None and not causal_only and (first_visible is not None or tokens > 1):
        starts = torch.zeros(rows, tokens, dtype=torch.int32, device=query.device) if first_visible is None else first_visible
        mask = visible(starts, past=past, columns=key.shape[2])
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), key, value, attn_mask=mask, is_causal=causal_only and mask is None and tokens > 1,
        enable_gqa=key.shape[1] != heads, scale=1.0 / math.sqrt(head_dim),
    )  # fmt: skip
    return out.transpose(1, 2).reshape(rows, tokens, heads * head_dim)


class Attention(nn.Module):
    """Projection to queries, keys and values (one fused matrix), rotation, attention, output projection."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads, self.key_value_heads, self.head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.dropout = config.attention_dropout
        self.qkv = Linear(config.hidden_size, config.query_size + 2 * config.key_value_size, bias=config.query_key_value_bias)
        self.output = Linear(config.query_size, config.hidden_size, bias=config.attention_output_bias)
        self.query_norm = Norm(config.head_dim, kind="rms", eps=config.norm_eps) if config.query_key_norm else None
        self.key_norm = Norm(config.head_dim, kind="rms", eps=config.norm_eps) if config.query_key_norm else None

    def forward(self, x: Tensor, places: Places, cache: Cache | None = None, layer: int = 0, wanted: Tensor | None = None) -> Tensor:
        """x [rows, tokens, hidden]; layer: which one of the cache; wanted: as ``Decoder.run`` has it.  -> [rows, tokens, hidden]"""
        return self.mix(self.qkv(x, places.spans), places, cache, layer, wanted)

    def mix(self, qkv: Tensor, places: Places, cache: Cache | None = None, layer: int = 0, wanted: Tensor | None = None) -> Tensor:
        """All that follows the projection ``qkv`` [rows, tokens, (heads + 2 key_value_heads) * head_dim].  -> [rows, tokens, hidden]"""
        qkv = self._adjusted(qkv, places.query_scale)
        mixed = self._attend(qkv, places) if cache is None else cache.attend(layer, qkv, places)
        return self.output(mixed if wanted is None else mixed[:, wanted], places.spans)

    def _attend(self, qkv: Tensor, places: Places) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        call = Call(qkv=qkv, places=places, num_key_value_heads=self.key_value_heads, head_dim=self.head_dim, dropout=dropout)
        return attend(call, places.backend)

    def _adjusted(self, qkv: Tensor, scale: Tensor | None) -> Tensor:
        """Queries and keys normed, queries scaled, where the config says so; the rotation that follows changes no lengths.  -> like qkv"""
        if self.query_norm is None and scale is None:
            return qkv
        query, key, value = split_heads(qkv, self.key_value_heads, self.head_dim)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query.contiguous()), self.key_norm(key.contiguous())
        if scale is not None:
            query = query * scale[:, :, None, None].type_as(query)
        return torch.cat((query, key, value), dim=2).flatten(2)
