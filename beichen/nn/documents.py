"""Attention over documents that stand side by side in a row, one after another: each is plain causal attention of its own.

In: what ``attention`` takes. Called by ``nn/attention.py`` on the CPU where no kernel of ours runs: there a mask costs more than causal
attention over the whole row, whereas documents apart cost less.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def document_lengths(first_visible: Tensor) -> list[list[tuple[int, bool]]] | None:
    """(length, whether its positions see only themselves) of each stretch of each row; None where the intervals are no documents.

    Neighbouring positions that see only themselves, such as padding, are one stretch. first_visible [rows, tokens]
    """
    starts = first_visible.numpy()
    columns = np.arange(starts.shape[1])
    begins = starts == columns
    if not begins[:, 0].all() or not (starts == np.maximum.accumulate(np.where(begins, columns, 0), axis=1)).all():
        return None
    return [_stretches(np.flatnonzero(row), starts.shape[1]) for row in begins]


def _stretches(begins: np.ndarray, tokens: int) -> list[tuple[int, bool]]:
    found: list[tuple[int, bool]] = []
    for length in np.diff(begins, append=tokens).tolist():
        if length == 1 and found and found[-1][1]:
            found[-1] = (found[-1][0] + 1, True)
        else:
            found.append((length, length == 1))
    return found


def attention_by_document(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[list[tuple[int, bool]]], *, scale: float, dropout: float = 0.0
) -> Tensor:
    """query [rows, heads, tokens, head_dim]; key, value [rows, key_value_heads, tokens, head_dim].  -> like query"""
    grouped = key.shape[1] != query.shape[1]
    rows = []
    for stretches, *tensors in zip(lengths, query.split(1), key.split(1), value.split(1), strict=True):
        sizes = [length for length, _ in stretches]
        parts = []
        for (length, alone), q, k, v in zip(stretches, *(tensor.split(sizes, dim=2) for tensor in tensors), strict=True):
            if alone and dropout == 0.0:
                parts.append(v.repeat_interleave(q.shape[1] // v.shape[1], dim=1) if grouped else v)
                continue
            mask = torch.eye(length, dtype=torch.bool) if alone else None
            part = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=not alone, dropout_p=dropout, enable_gqa=grouped, scale=scale
            )
            parts.append(part)
        rows.append(torch.cat(parts, dim=2))
    return torch.cat(rows)
