"""The one decoder of all families: ids in, final hidden states out, logits on request.

It knows one device. The cache is an argument, so are positions and what each query may see; objectives take the hidden states
and the head apart, so that logits of a whole batch need never exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beichen.nn import kernels
from beichen.nn.attention import Attention, Cache, query_scale
from beichen.nn.balancing import Balancing
from beichen.nn.config import DecoderConfig
from beichen.nn.experts import Mixture
from beichen.nn.feed_forward import FeedForward
from beichen.nn.linear import linear
from beichen.nn.norms import Norm
from beichen.nn.places import BackendName, Places
from beichen.nn.quantized import QuantizedMatrix
from beichen.nn.recomputation import Recompute, recomputed
from beichen.nn.rope import RopeTables
from beichen.nn.routing import Routing
from beichen.nn.spans import Span, Updates


class Layer(nn.Module):
    """Pre-norm block; the residual stream and the last update travel apart until the next norm adds them."""

    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.residual_after_norm, self.dropout = config.residual_after_norm, config.hidden_dropout
        self.attention_norm = Norm(config.hidden_size, kind=config.norm, eps=config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = Norm(config.hidden_size, kind=config.norm, eps=config.norm_eps)
        experts = config.experts_of(index)
        self.feed_forward = FeedForward(config, intermediate_size=config.intermediate_size) if experts is None else Mixture(config, experts)

    def forward(
        self, residual: Tensor, update: Tensor | None, places: Places, cache: Cache | None, index: int, routings: list[Routing] | None,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """(residual, pending update) -> the same after this layer, each [rows, tokens, hidden]. wanted: as ``Decoder.run`` has it."""
        residual, normed = self.attention_norm.add_norm(residual, update)
        update = self._drop(self.attention(normed, places, cache, index, wanted))
        if wanted is not None:
            residual, normed = residual[:, wanted], normed[:, wanted]
        residual, normed = self.feed_forward_norm.add_norm(normed if self.residual_after_norm else residual, update)
        return (normed if self.residual_after_norm else residual), self._drop(self.feed_forward(normed, routings, places.spans))

    def selective(self, residual: Tensor, update: Tensor | None, places: Places, routings: list[Routing] | None) -> tuple[Tensor, Tensor]:
        """``forward`` without a cache, keeping neither norms nor what enters the last product of the feed-forward."""
        total = residual if update is None else residual + update
        residual, qkv = self._entered(total, self.attention_norm, self.attention.qkv)
        total = residual + self._drop(self.attention.mix(qkv, places))
        feed_forward = self.feed_forward
        if isinstance(feed_forward, Mixture):
            normed = self.feed_forward_norm(total)
            return (normed if self.residual_after_norm else total), self._drop(feed_forward(normed, routings))
        residual, gate_up = self._entered(total, self.feed_forward_norm, feed_forward.gate_up)
        return residual, self._drop(recomputed(feed_forward.descend, gate_up))

    def _entered(self, total: Tensor, norm: Norm, product: nn.Module) -> tuple[Tensor, Tensor]:
        """(what the next update is added to, product of the norm), without keeping the norm."""

        def enter(x: Tensor) -> tuple[Tensor, Tensor]:
            normed = norm(x)
            return (normed if self.residual_after_norm else x), product(normed)

        return recomputed(enter, total)

    def _drop(self, update: Tensor) -> Tensor:
        return F.dropout(update, self.dropout, self.training) if self.dropout else update


def _with_routings(
    layer: Layer, residual: Tensor, update: Tensor | None, places: Places, index: int
) -> tuple[Tensor, Tensor, list[Routing]]:
    """A layer as a function without other effects: its routings are given back, so that computing it twice counts them once."""
    routings: list[Routing] = []
    residual, update = layer(residual, update, places, None, index, routings)
    return residual, update, routings


class Matrix(nn.Module):
    """One weight [rows, columns], uninitialised."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))


class Decoder(nn.Module):
    """Embedding, layers, final norm, head."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Matrix(config.vocab_size, config.hidden_size)
        self.embedding_norm = Norm(config.hidden_size, kind=config.norm, eps=config.norm_eps) if config.embedding_norm else None
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_hidden_layers))
        self.final_norm = Norm(config.hidden_size, kind=config.norm, eps=config.norm_eps)
        self.head: Matrix | QuantizedMatrix | None = None if config.tie_word_embeddings else Matrix(config.vocab_size, config.hidden_size)
        self.rope = RopeTables(config.rope, config.head_dim)
        self.recompute: Recompute = "nothing"  # in training
        self.attention_backend: BackendName = "auto"
        self.balancing = None if config.experts is None else Balancing.of(config.experts)  # what training asks; objectives read it

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of what flows from layer to layer."""
        return self.embedding.weight.dtype

    @property
    def head_weight(self) -> Tensor:
        """The output matrix [vocab, hidden]: the head's own, or the embedding when tied; of a quantized head, each time made anew."""
        if isinstance(self.head, QuantizedMatrix):
            return self.head.dequantized(self.dtype)
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(
        self, input_ids: Tensor, *, positions: Tensor | None = None, first_visible: Tensor | None = None,
        cache: Cache | None = None, rope_length: int | Sequence[int] | None = None, routings: list[Routing] | None = None,
        updates: Updates | None = None,
    ) -> Tensor:  # fmt: skip
        """Final hidden states, normed.

        input_ids [rows, tokens]; positions [rows, tokens] (default: the columns, past included); first_visible [rows, tokens]
        int32, in columns (default: all 0); cache: keys and values of earlier columns; rope_length: the largest length that a
        sequence (or each) may reach, above positions, for rules that depend on it (default: the columns so far); routings: receives
        what each mixture layer decided, in their order; updates: an adapter that moves all of them.  -> [rows, tokens, hidden]
        """
        rows, tokens = input_ids.shape
        past = 0 if cache is None else cache.length
        if positions is None:
            positions = torch.arange(past, past + tokens, device=input_ids.device).expand(rows, tokens)
        places = self.places(positions, rope_length or past + tokens, reach=past + tokens, first_visible=first_visible)
        if updates is not None:
            places = replace(places, spans=(Span(0, rows * tokens, updates),))
        return self.run(self.embed(input_ids), places, cache=cache, routings=routings)

    def run(
        self, embedded: Tensor, places: Places, *, cache: Cache | None = None, routings: list[Routing] | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """All layers and the final norm; ``forward`` from its places on.  embedded [rows, tokens, hidden] -> the same shape

        wanted [places]: the tokens of every row whose states are asked for (default: all); of the others the last layer computes keys
        and values alone. Not in training, nor where adapters move some of the tokens.
        """
        residual, update = embedded, None
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            if not self.training or cache is not None or self.recompute == "nothing":
                last = wanted if index == len(self.layers) - 1 else None
                residual, update = layer(residual, update, places, cache, index, routings, last)
            elif self.recompute == "selective":
                residual, update = layer.selective(residual, update, places, routings)
            else:
                residual, update, own = recomputed(_with_routings, layer, residual, update, places, index)
                if routings is not None:
                    routings.extend(own)
        if cache is not None:
            cache.advance(embedded.shape[1])
        hidden: Tensor = self.final_norm.add_norm(residual, update)[1]
        return hidden

    def places(self, positions: Tensor, length: int | Sequence[int], *, reach: int = 0, first_visible: Tensor | None = None) -> Places:
        """What ``positions`` [rows, tokens] do to queries and keys.

        length: ``rope_length`` of the forward; reach: where positions go beyond it (those of padding may).
        """
        config = self.config
        lengths = [length] if isinstance(length, int) else list(length)
        reach = max(reach, *lengths)
        if self.training and not config.stretch_in_training:
            lengths = [min(one, config.max_position_embeddings) for one in lengths]
        cos, sin = self.rope.rows(positions, lengths[0] if isinstance(length, int) else lengths, reach=reach)
        limit = config.query_scaling_length
        scale = None if limit is None or max(lengths) <= limit else query_scale(positions, limit)
        return Places(cos, sin, scale, first_visible, self.attention_backend)

    def embed(self, input_ids: Tensor) -> Tensor:
        """[...] -> [..., hidden]: what enters the first layer."""
        embedded = F.embedding(input_ids, self.embedding.weight)
        if self.config.embedding_scale != 1.0:
            embedded = embedded * self.config.embedding_scale
        if self.embedding_norm is not None:
            embedded = self.embedding_norm(embedded)
        return embedded

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab] float32, scaled as the family says."""
        logits = self.head.logits(hidden) if isinstance(self.head, QuantizedMatrix) else _logits(hidden, self.head_weight)
        return logits if self.config.logit_scale == 1.0 else logits * self.config.logit_scale


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """float32, not rounded on the way where the rows are few."""
    if kernels.can_run_few_rows(hidden, weight):
        return kernels.few_row_linear(hidden, weight, dtype=torch.float32)
    return linear(hidden, weight).float()
