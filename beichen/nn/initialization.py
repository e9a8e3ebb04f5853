"""First weights of a decoder, from a seed and each parameter's name: independent of device, order and thread count."""

from __future__ import annotations

import math

import torch

from beichen.nn.decoder import Decoder
from beichen.util.random import keyed_torch_generator


@torch.no_grad()
def initialize(decoder: Decoder, seed: int) -> None:
    """Fill every parameter: norms 1, biases 0, embedding and head N(0, range); linear layers N(0, 1 / sqrt(in)) up to ``range``
    scaled to their width, and the two projections into the residual stream divided by sqrt(2 layers), as GPT-2 does.

    Raises nothing; the decoder may be on any device except ``meta``.
    """
    config = decoder.config
    for buffer in decoder.buffers():  # biases of the choice of experts
        buffer.zero_()
    into_stream = 1.0 / math.sqrt(2 * config.num_hidden_layers)
    for name, parameter in decoder.named_parameters():
        if "norm" in name:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            scale = into_stream if name.endswith(("attention.output.weight", "down.weight")) else 1.0
            values = torch.empty(parameter.shape, dtype=torch.float32)
            values.normal_(0.0, config.initializer_range * scale, generator=keyed_torch_generator(seed, f"initialize {name}", 0))
            parameter.copy_(values)
