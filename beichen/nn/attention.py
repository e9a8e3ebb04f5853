"""Causal attention in which every query sees one interval of columns.

Query column c of row r sees key columns ``first_visible[r, c] .. c``. That one array expresses causal rows (0), left
padding (the first real column) and packed documents (the column where the own document begins), so no mask of
[tokens, tokens] is ever an argument. Backends stand behind ``rope_attention`` and ``attention`` and are equal by test.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels
from beichen.nn.cache import KeyValueCache, visible
from beichen.nn.config import DecoderConfig
from beichen.nn.documents import attention_by_document, document_lengths
from beichen.nn.linear import Linear
from beichen.nn.norms import Norm
from beichen.nn.rope import rotate


def query_scale(positions: Tensor, length: int) -> Tensor:
    """Scores grow with the logarithm of the number of keys beyond ``length``: ln(position + 1) / ln(length), else 1.  -> like positions"""
    return ((positions.float() + 1.0).log() / math.log(length)).clamp(min=1.0)


def attention(
    query: Tensor, key: Tensor, value: Tensor, first_visible: Tensor | None, *,
    past: int = 0, mask: Tensor | None = None, dropout: float = 0.0,
) -> Tensor:  # fmt: skip
    """softmax(q k / sqrt(d)) v over the visible interval; query head h reads key/value head h // group.

    query [rows, tokens, heads, head_dim]; key, value [rows, key_value_heads, past + tokens, head_dim];
    first_visible [rows, tokens] or None (all from column 0); mask: ``visible`` of it, if at hand.
    -> [rows, tokens, heads * head_dim]
    """
    rows, tokens, heads, head_dim = query.shape
    grouped = key.shape[1] != heads
    causal_only = first_visible is None and past == 0
    if first_visible is not None and mask is None and past == 0 and query.device.type == "cpu" and key.shape[2] == tokens:
        lengths = document_lengths(first_visible)
        if lengths is not None:
            out = attention_by_document(query.transpose(1, 2), key, value, lengths, scale=1.0 / math.sqrt(head_dim), dropout=dropout)
            return out.transpose(1, 2).reshape(rows, tokens, heads * head_dim)
    if mask is None and not causal_only and (first_visible is not None or tokens > 1):
        starts = torch.zeros(rows, tokens, dtype=torch.int32, device=query.device) if first_visible is None else first_visible
        mask = visible(starts, past=past, columns=key.shape[2])
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), key, value, attn_mask=mask, is_causal=causal_only and tokens > 1,
        dropout_p=dropout, enable_gqa=grouped, scale=1.0 / math.sqrt(head_dim),
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

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, first_visible: Tensor | None, cache: KeyValueCache | None = None, layer: int = 0,
        scale: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """x [rows, tokens, hidden]; cos, sin [rows, tokens, head_dim / 2]; scale of queries [rows, tokens].  -> [rows, tokens, hidden]"""
        return self.mix(self.qkv(x), cos, sin, first_visible, cache, layer, scale)

    def mix(
        self, qkv: Tensor, cos: Tensor, sin: Tensor, first_visible: Tensor | None, cache: KeyValueCache | None = None, layer: int = 0,
        scale: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """All that follows the projection ``qkv`` [rows, tokens, (heads + 2 key_value_heads) * head_dim].  -> [rows, tokens, hidden]"""
        qkv = self._adjusted(qkv, scale)
        dropout = self.dropout if self.training else 0.0
        if cache is None and dropout == 0.0 and kernels.can_run(qkv):
            starts = torch.zeros(qkv.shape[:2], dtype=torch.int32) if first_visible is None else first_visible
            mixed = kernels.rope_attention(
                qkv, cos, sin, starts, num_heads=self.heads, num_key_value_heads=self.key_value_heads, scale=1.0 / math.sqrt(self.head_dim)
            )
            return self.output(mixed)
        if cache is not None and not qkv.requires_grad and kernels.can_run(qkv, cache.keys):
            keys, values = cache.layer(layer, tokens=qkv.shape[1])
            mixed = kernels.cached_attention(
                qkv, cos, sin, first_visible, keys, values, past=cache.length, num_heads=self.heads, scale=1.0 / math.sqrt(self.head_dim)
            )
            return self.output(mixed)
        query, key, value = self._heads(qkv)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if cache is None:
            return self.output(attention(query, key.transpose(1, 2), value.transpose(1, 2), first_visible, dropout=dropout))
        past = cache.length
        keys, values = cache.append(layer, key, value)
        mask = None if first_visible is None and past == 0 else cache.mask(first_visible, qkv.shape[1])
        return self.output(attention(query, keys, values, first_visible, past=past, mask=mask))

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views of the fused projection: query, key, value [rows, tokens, (key_value_)heads, head_dim]."""
        heads = qkv.unflatten(-1, (-1, self.head_dim))
        query, key, value = heads.split((self.heads, self.key_value_heads, self.key_value_heads), dim=2)
        return query, key, value

    def _adjusted(self, qkv: Tensor, scale: Tensor | None) -> Tensor:
        """Queries and keys normed, queries scaled, where the config says so; the rotation that follows changes no lengths.  -> like qkv"""
        if self.query_norm is None and scale is None:
            return qkv
        query, key, value = self._heads(qkv)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query.contiguous()), self.key_norm(key.contiguous())
        if scale is not None:
            query = query * scale[:, :, None, None].type_as(query)
        return torch.cat((query, key, value), dim=2).flatten(2)
