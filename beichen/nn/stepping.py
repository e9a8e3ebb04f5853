"""One new column for every row through the whole decoder: what decoding does over and over.

Where the compiled kernels can do it (bf16 on the CPU, RMSNorm, no experts, adapters or quantized weights) it is one call into them;
elsewhere it is the decoder's own forward. Both are equal by test. A ``Stepper`` belongs to one run of decoding: weights must not move
meanwhile.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.cache import DenseCache
from beichen.nn.decoder import Decoder, Layer
from beichen.nn.feed_forward import FeedForward
from beichen.nn.low_rank import LowRank
from beichen.nn.quantized import QuantizedMatrix


class Stepper:
    """A decoder ready for steps of one id per row; ``rope_length`` as in ``Decoder.forward``, for all of them."""

    def __init__(self, decoder: Decoder, *, rope_length: int) -> None:
        self.decoder = decoder
        device = decoder.head_weight.device
        places = decoder.places(torch.arange(rope_length, device=device)[None], rope_length)
        self._cos, self._sin = places.cos[0], places.sin[0]  # [rope_length, head_dim / 2]
        self._scale = None if places.query_scale is None else places.query_scale[0]  # [rope_length]
        self._rope_length = rope_length
        self._compiled = compiled_step(decoder)

    def __call__(self, ids: Tensor, positions: Tensor, first_visible: Tensor | None, cache: DenseCache) -> Tensor:
        """ids, positions [rows]; first_visible [rows] int32, in columns, or None (all from column 0).  -> hidden [rows, hidden], normed"""
        if self._compiled is None:
            starts = None if first_visible is None else first_visible[:, None]
            hidden: Tensor = self.decoder(
                ids[:, None], positions=positions[:, None], first_visible=starts, cache=cache, rope_length=self._rope_length
            )
            return hidden[:, 0]
        cache.layer(0, tokens=1)
        hidden = self._compiled(
            self.decoder.embed(ids), self._cos[positions], self._sin[positions], first_visible, cache.keys, cache.values,
            past=cache.length, query_scale=None if self._scale is None else self._scale[positions],
        )  # fmt: skip
        cache.advance(1)
        return hidden


def compiled_step(decoder: Decoder) -> kernels.DecoderStep | None:
    """The whole step as one kernel, or None where it does not fit this decoder or this machine."""
    config = decoder.config
    if config.norm != "rms" or config.experts is not None or not kernels.can_run(*decoder.parameters()):
        return None
    if any(isinstance(module, (LowRank, QuantizedMatrix)) for module in decoder.modules()):
        return None
    return kernels.DecoderStep(
        [_layer_weights(layer) for layer in decoder.layers if isinstance(layer, Layer)], decoder.final_norm.weight,
        num_heads=config.num_attention_heads, num_key_value_heads=config.num_key_value_heads, head_dim=config.head_dim,
        eps=config.norm_eps, scale=1.0 / math.sqrt(config.head_dim), residual_after_norm=config.residual_after_norm,
    )  # fmt: skip


def _layer_weights(layer: Layer) -> kernels.LayerWeights:
    attention, feed_forward = layer.attention, layer.feed_forward
    assert isinstance(feed_forward, FeedForward)
    return kernels.LayerWeights(
        attention_norm=layer.attention_norm.weight,
        qkv=attention.qkv.weight,
        qkv_bias=attention.qkv.bias,
        query_norm=None if attention.query_norm is None else attention.query_norm.weight,
        key_norm=None if attention.key_norm is None else attention.key_norm.weight,
        output=attention.output.weight,
        output_bias=attention.output.bias,
        feed_forward_norm=layer.feed_forward_norm.weight,
        gate_up=feed_forward.gate_up.weight,
        gate_up_bias=feed_forward.gate_up.bias,
        down=feed_forward.down.weight,
        down_bias=feed_forward.down.bias,
    )
