"""What the MindSpore layouts of the TeleChat families share: a name for each, and views as MindFormers lays tensors out.

``mindspore``: the training layout. ``mindspore_qkv_concat``: queries, keys and values in one, gate and up in one. ``mindspore_gmm``:
experts for grouped products, [experts, in, out]. ``mindspore_mp2`` (4, 8): fused, rows grouped by tensor-parallel rank.
"""

from __future__ import annotations

from torch import Tensor

from beichen.errors import ConfigError
from beichen.models.naming import Views
from beichen.nn.config import DecoderConfig

PLAIN, FUSED, GROUPED = "mindspore", "mindspore_qkv_concat", "mindspore_gmm"
RANKS = {f"mindspore_mp{ranks}": ranks for ranks in (2, 4, 8)}


def by_rank(parts: int, ranks: int) -> Views:
    """One tensor of ``parts`` equal matrices (queries, keys, values; gate, up), stored rank by rank: each rank's rows of every part."""

    def views(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
        for name in ("num_attention_heads", "intermediate_size"):
            if getattr(config, name) % ranks:
                raise ConfigError(f"{name}={getattr(config, name)} does not divide among {ranks} tensor-parallel ranks")
        return (ours.unflatten(0, (parts, ranks, -1)).transpose(0, 1),)

    return views


def stacked_gate_and_up(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
    """Two published tensors [experts, out, in]: gate, up."""
    gate, up = ours.chunk(2, dim=1)
    return gate, up


def stacked_gate_and_up_transposed(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
    """Two published tensors [experts, in, out]: gate, up."""
    gate, up = ours.chunk(2, dim=1)
    return gate.mT, up.mT


def stacked_bias(ours: Tensor, config: DecoderConfig) -> tuple[Tensor, ...]:
    """[1, experts, 1, out]."""
    return (ours[None, :, None],)
