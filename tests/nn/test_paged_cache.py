"""Sequences of any lengths, fed in any chunks into blocks that lie anywhere, give what each of them alone gives uncached."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beichen.nn import kernels
from beichen.nn.config import DecoderConfig
from beichen.nn.paged_cache import PagedPass, PagePool, block_bytes
from tests import needs
from tests.nn.test_stepping import ROPE_LENGTH, SHAPES, decoder_of

KINDS = [
    pytest.param(torch.float32, 1e-4, id="float32"),  # sums of some 60 products in another order
    pytest.param(torch.bfloat16, 0.06, id="bfloat16"),  # three layers that round each value to 8 bits, in two ways
]


@torch.no_grad()
def fed_in_chunks(shape: str, dtype: torch.dtype, seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """-> (hidden states of each sequence through the pool, the same by a forward of its own)"""
    chooser = np.random.default_rng(seed)
    decoder = decoder_of(shape, dtype)
    lengths = chooser.integers(1, ROPE_LENGTH + 1, chooser.integers(1, 6))
    texts = [torch.from_numpy(chooser.integers(96, size=length)) for length in lengths]
    alone = [decoder(text[None], rope_length=ROPE_LENGTH)[0] for text in texts]
    blocks = -(-ROPE_LENGTH // 16)
    pool = PagePool(decoder.config, blocks=blocks * len(texts), dtype=dtype, block_size=16)
    pool.keys.fill_(float("nan"))
    pool.values.fill_(float("nan"))
    tables = chooser.permutation(blocks * len(texts)).reshape(len(texts), blocks)
    pasts = np.zeros(len(texts), dtype=np.int64)
    found: list[list[torch.Tensor]] = [[] for _ in texts]
    while (left := np.flatnonzero(pasts < lengths)).size:
        chosen = chooser.permutation(left)[: chooser.integers(1, left.size + 1)]
        most = np.minimum(lengths[chosen] - pasts[chosen], chooser.choice([1, 5, 40]))
        counts = np.array([chooser.integers(1, count + 1) for count in most])
        spans = list(zip(chosen, pasts[chosen], pasts[chosen] + counts, strict=True))
        ids = torch.cat([texts[number][begin:end] for number, begin, end in spans])
        positions = torch.cat([torch.arange(begin, end) for _, begin, end in spans])
        cache = PagedPass(pool, tables[chosen], counts, pasts[chosen])
        hidden = decoder.run(decoder.embed(ids[None]), decoder.places(positions[None], ROPE_LENGTH), cache=cache)[0]
        for (number, _, _), part in zip(spans, hidden.split(counts.tolist()), strict=True):
            found[number].append(part)
        pasts[chosen] += counts
    return [torch.cat(parts) for parts in found], alone


@pytest.mark.parametrize(("dtype", "tolerance"), KINDS)
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_chunks_of_many_equal_each_alone(shape, compiled, dtype, tolerance):
    if compiled:
        needs.need_compiled_kernels()
    for seed in range(8):
        if compiled:
            found, alone = fed_in_chunks(shape, dtype, seed)
        else:
            with kernels.switched_off():
                found, alone = fed_in_chunks(shape, dtype, seed)
        for ours, wanted in zip(found, alone, strict=True):
            assert (ours - wanted).float().norm() <= tolerance * wanted.float().norm()


def test_what_lies_outside_the_blocks_is_refused():
    config = DecoderConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=4, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    pool = PagePool(config, blocks=2, dtype=torch.bfloat16, block_size=16)
    assert pool.keys.nbytes + pool.values.nbytes == 2 * block_bytes(config, torch.bfloat16, 16)
    for table, past, fault in (([0, 1], 32, "33 columns do not fit a table of 2 blocks of 16"), ([0, 2], 3, "blocks 0 to 2: there are 2")):
        with pytest.raises(ValueError, match=fault):
            PagedPass(pool, np.array([table]), np.array([1]), np.array([past]))
