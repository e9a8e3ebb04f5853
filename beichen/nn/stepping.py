"""A few new tokens of every sequence through the whole decoder: what decoding does over and over.

Where the compiled kernels can do it (bf16 on the CPU, quantized or not, RMSNorm, no experts) it is one call into them, adapters on the
decoder or of some of the tokens included; elsewhere it is the decoder's own forward. Both are equal by test. A ``Stepper`` belongs to one
run of decoding: weights must not move meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.decoder import Decoder, Layer
from beichen.nn.feed_forward import FeedForward
from beichen.nn.linear_layer import LinearLayer
from beichen.nn.low_rank import LowRank
from beichen.nn.paged_cache import PagedPass
from beichen.nn.places import Places
from beichen.nn.quantized import QuantizedLinear
from beichen.nn.spans import Span, Updates

FEW_TOKENS = 64  # in all; with more, the decoder's own forward is as fast


class Stepper:
    """A decoder ready for many small forwards over one pool."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._compiled = compiled_step(decoder)
        self._carried = {layer: layer.adapter for layer in _linear_layers(decoder) if layer.adapter is not None}
        self._adapters: dict[int, tuple[Updates, kernels.StepAdapter | None]] = {}  # by identity: what has been seen, and its compiled form

    def __call__(self, ids: Tensor, places: Places, pages: PagedPass, wanted: Sequence[int] | None = None) -> Tensor:
        """ids [tokens], as ``pages`` has them; places of [1, tokens]; wanted: tokens whose states are asked for (default: all). Moves
        ``pages`` on.  -> hidden states [wanted, hidden], normed"""
        if wanted is not None and len(wanted) == len(ids):
            wanted = None
        embedded = self.decoder.embed(ids)
        adapted = None if len(ids) > FEW_TOKENS else self._adapted(places.spans, len(ids))
        if self._compiled is None or adapted is None:
            return self._eagerly(embedded[None], places, pages, wanted)
        pages.check_room()
        hidden = self._compiled(
            embedded, places.cos[0], places.sin[0], pages.tables, pages.sequences, pages.columns, pages.pool.keys, pages.pool.values,
            query_scale=None if places.query_scale is None else places.query_scale[0], several=pages.several, adapted=adapted,
        )  # fmt: skip
        pages.advance(1)
        return hidden if wanted is None else hidden[wanted]

    def _eagerly(self, embedded: Tensor, places: Places, pages: PagedPass, wanted: Sequence[int] | None) -> Tensor:
        if wanted is None or places.spans:
            hidden = self.decoder.run(embedded, places, cache=pages)[0]
            return hidden if wanted is None else hidden[wanted]
        some = torch.tensor(wanted or [0], device=embedded.device)  # a layer may need a token
        return self.decoder.run(embedded, places, cache=pages, wanted=some)[0, : len(wanted)]

    def _adapted(self, spans: Sequence[Span], tokens: int) -> list[tuple[int, int, kernels.StepAdapter]] | None:
        """Which tokens carry what, as the compiled step takes it; None where it cannot."""
        if self._compiled is None or (self._carried and spans):
            return None
        if self._carried:
            spans = [Span(0, tokens, self._carried)]
        found = []
        for span in spans:
            if id(span.updates) not in self._adapters:
                self._adapters[id(span.updates)] = span.updates, self._prepared(self._compiled, span.updates)
            _, adapter = self._adapters[id(span.updates)]
            if adapter is None:
                return None
            found.append((span.begin, span.end, adapter))
        return found

    def _prepared(self, step: kernels.DecoderStep, updates: Updates) -> kernels.StepAdapter | None:
        matrices = [matrix for layer in self.decoder.layers if isinstance(layer, Layer) for matrix in _matrices(layer)]
        known = {layer: update.for_few_rows(layer) for layer, update in updates.items() if isinstance(update, LowRank)}
        if not updates.keys() <= set(matrices) or len(known) < len(updates) or None in known.values():
            return None
        return step.adapter([known.get(matrix) for matrix in matrices])


def compiled_step(decoder: Decoder) -> kernels.DecoderStep | None:
    """The whole step as one kernel, or None where it does not fit this decoder or this machine."""
    config = decoder.config
    own = [parameter for name, parameter in decoder.named_parameters() if ".adapter." not in name]
    if config.norm != "rms" or config.experts is not None or not kernels.can_run(*own):
        return None
    if len({layer.held_as for layer in _linear_layers(decoder)}) > 1:
        return None
    return kernels.DecoderStep(
        [_layer_weights(layer) for layer in decoder.layers if isinstance(layer, Layer)], decoder.final_norm.weight,
        num_heads=config.num_attention_heads, num_key_value_heads=config.num_key_value_heads, head_dim=config.head_dim,
        eps=config.norm_eps, scale=1.0 / math.sqrt(config.head_dim), residual_after_norm=config.residual_after_norm,
    )  # fmt: skip


def _linear_layers(decoder: Decoder) -> list[LinearLayer]:
    return [module for module in decoder.modules() if isinstance(module, LinearLayer)]


def _matrices(layer: Layer) -> tuple[LinearLayer, ...]:
    """In the order of the compiled step."""
    assert isinstance(layer.feed_forward, FeedForward)
    return layer.attention.qkv, layer.attention.output, layer.feed_forward.gate_up, layer.feed_forward.down


def _layer_weights(layer: Layer) -> kernels.LayerWeights:
    attention, feed_forward = layer.attention, layer.feed_forward
    assert isinstance(feed_forward, FeedForward)
    return kernels.LayerWeights(
        attention_norm=layer.attention_norm.weight,
        qkv=_matrix(attention.qkv),
        qkv_bias=attention.qkv.bias,
        query_norm=None if attention.query_norm is None else attention.query_norm.weight,
        key_norm=None if attention.key_norm is None else attention.key_norm.weight,
        output=_matrix(attention.output),
        output_bias=attention.output.bias,
        feed_forward_norm=layer.feed_forward_norm.weight,
        gate_up=_matrix(feed_forward.gate_up),
        gate_up_bias=feed_forward.gate_up.bias,
        down=_matrix(feed_forward.down),
        down_bias=feed_forward.down.bias,
    )


def _matrix(layer: LinearLayer) -> Tensor | kernels.Codes:
    return layer.matrix.as_codes() if isinstance(layer, QuantizedLinear) else layer.full_weight()
