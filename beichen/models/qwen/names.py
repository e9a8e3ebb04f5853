"""Qwen's published tensors <-> the decoder's parameters: Llama's, and in Qwen 3 a norm over each head's query and key."""

from dataclasses import replace

from beichen.models.llama import names as llama
from beichen.models.naming import Row

_ATTENTION = "model.layers.{i}.self_attn."

NAMES = replace(
    llama.NAMES,
    rows=(
        *llama.NAMES.rows,
        Row("layers.{i}.attention.query_norm.weight", (_ATTENTION + "q_norm.weight",)),
        Row("layers.{i}.attention.key_norm.weight", (_ATTENTION + "k_norm.weight",)),
    ),
)
