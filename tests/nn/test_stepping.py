"""A step of the whole decoder in one kernel equals the decoder's own forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from beichen.nn import kernels
from beichen.nn.config import DecoderConfig, ExpertsConfig, RopeConfig
from beichen.nn.decoder import Decoder
from beichen.nn.linear_layer import LinearLayer
from beichen.nn.low_rank import LowRank, Part
from beichen.nn.paged_cache import PagedPass, PagePool
from beichen.nn.quantized import KINDS, quantize
from beichen.nn.spans import Span, Updates
from beichen.nn.stepping import Stepper, compiled_step
from tests import needs

BASE: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
    "intermediate_size": 80, "max_position_embeddings": 64,
    "rope": RopeConfig(rule="scaled_stepped_ntk", original_length=16, trained_length=64),
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "telechat2": {"attention_output_bias": True, "down_bias": True},
    "grouped, tied, scaled": {"num_key_value_heads": 2, "tie_word_embeddings": True, "embedding_scale": 3.0, "logit_scale": 0.5},
    "all biases, odd widths": {
        "query_key_value_bias": True,
        "gate_up_bias": True,
        "hidden_size": 72,
        "head_dim": 18,
        "intermediate_size": 50,
    },
    "normed": {"embedding_norm": True, "residual_after_norm": True},
    "layer norm": {"norm": "layer"},
    "query and key norm": {"query_key_norm": True},
    "queries scaled": {"query_scaling_length": 8},
    "all about queries": {"query_scaling_length": 12, "query_key_norm": True, "num_key_value_heads": 2, "query_key_value_bias": True},
    "experts": {
        "experts": ExpertsConfig(num_experts=4, num_experts_per_token=4, intermediate_size=24, shared_intermediate_size=40, down_bias=True)
    },
}


def decoder_of(shape: str, dtype: torch.dtype) -> Decoder:
    decoder = Decoder(DecoderConfig(**{**BASE, **SHAPES[shape]})).to(dtype).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in decoder.named_parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.15 + ("norm" in name and not name.endswith("bias")))
    return decoder


ROPE_LENGTH = 40


def hidden_states(decoder: Decoder, **settings: Any) -> torch.Tensor:
    """As ``states_of_rows``, one below the other.  -> [tokens, hidden]"""
    return torch.cat(states_of_rows(decoder, **settings)).float()


@torch.no_grad()
def states_of_rows(
    decoder: Decoder, *, rows: int, steps: int, most: int, carried: Sequence[Updates | None] = ()
) -> list[torch.Tensor]:  # fmt: skip
    """Prompts of 4 to 9 tokens, then steps of 1 to ``most`` each; half of the rows leave after three.  -> of every step, of each row of
    that half: hidden states [its tokens, hidden]

    carried: each sequence's adapter, if any; prompts are read without.
    """
    chooser = np.random.default_rng(2)
    pasts = chooser.integers(4, 10, rows)
    blocks = -(-(9 + steps * most) // 16)
    pool = PagePool(decoder.config, blocks=blocks * rows, dtype=decoder.head_weight.dtype, block_size=16)
    tables = chooser.permutation(blocks * rows).reshape(rows, blocks)
    positions = torch.from_numpy(np.concatenate([np.arange(past) for past in pasts]))[None]
    decoder.run(
        decoder.embed(torch.from_numpy(chooser.integers(96, size=(1, pasts.sum())))), decoder.places(positions, ROPE_LENGTH),
        cache=PagedPass(pool, tables, pasts, np.zeros_like(pasts)),
    )  # fmt: skip
    step = Stepper(decoder)
    found: list[torch.Tensor] = []
    for number in range(steps):
        if number == 3:
            tables, pasts, rows = tables[::2], pasts[::2], len(pasts[::2])
        counts = chooser.integers(1, most + 1, rows)
        ids = torch.from_numpy(chooser.integers(96, size=counts.sum()))
        places = decoder.places(
            torch.cat([torch.arange(past, past + count) for past, count in zip(pasts, counts, strict=True)])[None], ROPE_LENGTH
        )
        if carried:
            ends = [0, *np.cumsum(counts).tolist()]
            held = carried if number < 3 else carried[::2]
            spans = (Span(ends[row], ends[row + 1], one) for row, one in enumerate(held) if one is not None)
            places = replace(places, spans=tuple(spans))
        hidden = step(ids, places, PagedPass(pool, tables, counts, pasts))
        found += hidden.split(counts.tolist()) if number >= 3 else hidden.split(counts.tolist())[::2]
        pasts = pasts + counts
    return found


@needs.compiled_kernels
@pytest.mark.parametrize(("rows", "most"), [(1, 1), (3, 1), (16, 1), (70, 1), (1, 5), (9, 4), (30, 4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_equals_the_forward_in_bfloat16(shape, rows, most):
    decoder = decoder_of(shape, torch.bfloat16)
    found = hidden_states(decoder, rows=rows, steps=6, most=most)
    with kernels.switched_off():
        plain = hidden_states(decoder, rows=rows, steps=6, most=most)
    exact = hidden_states(decoder.float(), rows=rows, steps=6, most=most)
    tolerance = (plain - exact).square().mean().sqrt() * 1.5 + 1e-3  # as near to the truth as the plain way
    assert (found - exact).square().mean().sqrt() < tolerance


@needs.compiled_kernels
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "most"), [(1, 1), (2, 1), (3, 1), (16, 1), (9, 4)])
@pytest.mark.parametrize("shape", ["telechat2", "all biases, odd widths", "all about queries"])
def test_quantized_layers_take_the_same_step(shape, rows, most, kind):
    """As near to the truth as multiplying by the dequantized matrices."""
    decoder = decoder_of(shape, torch.bfloat16)
    quantize(decoder, kind)
    assert compiled_step(decoder) is not None
    found = hidden_states(decoder, rows=rows, steps=6, most=most)
    with kernels.switched_off():
        plain = hidden_states(decoder, rows=rows, steps=6, most=most)
    exact = hidden_states(decoder.float(), rows=rows, steps=6, most=most)
    assert (found - exact).square().mean().sqrt() < (plain - exact).square().mean().sqrt() * 1.5 + 1e-3


def adapter_of(decoder: Decoder, seed: int) -> dict[LinearLayer, LowRank]:
    """Random updates of three layers in four, with every odd seed DoRA; the same numbers in every format."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    layers = [module for module in decoder.modules() if isinstance(module, LinearLayer)]
    for layer in layers:
        rows, columns = layer.shape
        parts = [Part(0, rows // 3, rank=1 + seed, scale=0.7), Part(rows // 3 + 5, rows, rank=16, scale=1.5)]
        adapter = LowRank(columns, rows, parts, magnitudes=seed % 2 == 1).requires_grad_(False).eval()
        for matrix in (adapter.a, *adapter.b):
            matrix.normal_(std=0.1, generator=generator).copy_(matrix.bfloat16())
            matrix.data = matrix.data.to(decoder.head_weight.dtype)
        for magnitude in adapter.magnitudes or ():
            magnitude.uniform_(0.5, 1.5, generator=generator)
        adapter.settle(layer)
        found[layer] = adapter
    return {layer: adapter for number, (layer, adapter) in enumerate(found.items()) if number % 4 != seed % 4}


@needs.compiled_kernels
@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize(("rows", "most"), [(1, 1), (2, 1), (7, 1), (16, 1), (9, 4)])
@pytest.mark.parametrize("shape", ["telechat2", "all biases, odd widths", "normed"])
def test_each_row_is_moved_by_its_adapter_alone(shape, rows, most, kind):
    """As near to the truth as the decoder's own forward; a row without an adapter is, to the bit, as if nobody had one."""
    decoder = decoder_of(shape, torch.bfloat16)
    if kind is not None:
        quantize(decoder, kind)
    chosen = [None, 1, 2, 3, 4][-rows:] if rows < 5 else [None, None, *np.sort(np.random.default_rng(rows).integers(1, 5, rows - 2))]

    def states(adapters: Callable[[int], Updates]) -> list[torch.Tensor]:
        made = {seed: adapters(seed) for seed in range(1, 5)}
        return states_of_rows(decoder, rows=rows, steps=6, most=most, carried=[None if one is None else made[one] for one in chosen])

    def distance(found: list[torch.Tensor], exact: list[torch.Tensor]) -> torch.Tensor:
        return (torch.cat(found).float() - torch.cat(exact)).square().mean().sqrt()

    with patch.object(decoder, "run", wraps=decoder.run) as forward:
        found = states(lambda seed: adapter_of(decoder, seed))
    assert forward.call_count == 1, "only the prompts go through the decoder's own forward"
    alone = states_of_rows(decoder, rows=rows, steps=6, most=most)
    for number, (one, other) in enumerate(zip(found, alone, strict=True)):
        assert torch.equal(one, other) == (chosen[::2][number % len(chosen[::2])] is None)
    with kernels.switched_off():
        plain = states(lambda seed: adapter_of(decoder, seed))
    decoder.float()
    exact = states(lambda seed: adapter_of(decoder, seed))
    assert distance(found, exact) < distance(plain, exact) * 1.5 + 1e-3


@needs.compiled_kernels
@pytest.mark.parametrize("seed", [1, 2])
def test_a_decoder_that_carries_an_adapter_takes_the_step_as_with_the_adapter_beside_it(seed):
    """To the bit."""
    decoder = decoder_of("telechat2", torch.bfloat16)
    beside = adapter_of(decoder, seed)
    tokens = torch.tensor([3, 1, 4])

    def stepped(spans: tuple[Span, ...]) -> torch.Tensor:
        pool = PagePool(decoder.config, blocks=3, dtype=torch.bfloat16, block_size=16)
        pages = PagedPass(pool, np.arange(3)[:, None], np.ones(3, np.int64), np.zeros(3, np.int64))
        with torch.no_grad(), patch.object(decoder, "run", side_effect=AssertionError("the decoder's own forward")):
            return Stepper(decoder)(tokens, replace(decoder.places(torch.zeros(1, 3, dtype=torch.int64), ROPE_LENGTH), spans=spans), pages)

    expected, base = stepped((Span(0, 3, beside),)), stepped(())
    for layer, adapter in adapter_of(decoder, seed).items():
        layer.adapter = adapter
    assert torch.equal(stepped(()), expected) and not torch.equal(base, expected)
