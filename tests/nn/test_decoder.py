"""The decoder equals a slow float64 twin in every fact a family may state, and gives the same numbers in every way of running it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.cache import DenseCache
from beichen.nn.config import DecoderConfig, ExpertsConfig, RopeConfig
from beichen.nn.decoder import Decoder, Matrix
from beichen.nn.quantized import QuantizedMatrix
from tests import needs
from tests.nn.slow_decoder import packed_row, slow_hidden, slow_logits

FACTS: list[dict[str, Any]] = [
    {},
    {"num_key_value_heads": 1, "query_key_value_bias": True, "attention_output_bias": True, "gate_up_bias": True, "down_bias": True},
    {"norm": "layer", "norm_eps": 1e-3, "embedding_norm": True},
    {"query_key_norm": True, "tie_word_embeddings": True},
    {"residual_after_norm": True, "embedding_norm": True},
    {"embedding_scale": 3.5, "logit_scale": 0.25},
    {"head_dim": 6, "num_attention_heads": 2, "num_key_value_heads": 2},  # heads narrower than the hidden size
    {"rope": RopeConfig(rule="scaled_stepped_ntk", original_length=8, trained_length=12)},
    {"rope": RopeConfig(base=5000.0, rule="llama3", factor=4.0, original_length=16), "norm_eps": 1e-8},
    {"rope": RopeConfig(rule="linear", factor=2.0), "num_key_value_heads": 4},
    {"rope": RopeConfig(rule="yarn", factor=4.0, original_length=16, attention_scale=1.3)},
    {"rope": RopeConfig(rule="stepped_ntk", original_length=8), "query_scaling_length": 8, "query_key_value_bias": True},
    {"query_scaling_length": 4, "query_key_norm": True},
    {
        "experts": ExpertsConfig(
            num_experts=5, num_experts_per_token=2, intermediate_size=6, shared_intermediate_size=7, first_dense_layers=1
        )
    },
    {"experts": ExpertsConfig(num_experts=4, num_experts_per_token=3, intermediate_size=8, down_bias=True, normalize_top_k=True)},
]


def small_decoder(dtype: torch.dtype = torch.float32, **changes: Any) -> Decoder:
    """Weights far from zero, so that each fact shows."""
    settings: dict[str, Any] = {
        "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "intermediate_size": 24, "max_position_embeddings": 64,
    }  # fmt: skip
    decoder = Decoder(DecoderConfig(**{**settings, **changes})).eval()
    generator = torch.Generator().manual_seed(11)
    for name, parameter in decoder.named_parameters():
        parameter.data.normal_(1.0 if "norm" in name and "bias" not in name else 0.0, 0.3, generator=generator)
    return decoder.to(dtype)


def random_ids(rows: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 30, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def distance(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference, relative."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("facts", FACTS)
def test_equals_the_slow_twin(facts):
    decoder = small_decoder(**facts)
    positions, starts = packed_row([5, 1, 7])
    rows = [(None, None, 13), (positions, starts, 13), (None, None, 20)]
    ids = random_ids(1, 13)
    for given_positions, given_starts, length in rows:
        columns = torch.arange(13)[None]
        expected = slow_hidden(
            decoder, ids, columns if given_positions is None else given_positions,
            torch.zeros_like(columns) if given_starts is None else given_starts, length,
        )  # fmt: skip
        with torch.no_grad():
            hidden = decoder(ids, positions=given_positions, first_visible=given_starts, rope_length=length)
            logits = decoder.logits(hidden)
        assert distance(hidden, expected) < 5e-6
        assert logits.dtype == torch.float32 and distance(logits, slow_logits(decoder, expected)) < 5e-6


def test_each_fact_changes_the_numbers():
    """Otherwise the test above would prove nothing of it."""
    ids = random_ids(2, 13)
    plain = small_decoder().logits(small_decoder()(ids))
    for facts in FACTS[1:]:
        decoder = small_decoder(**facts)
        assert distance(decoder.logits(decoder(ids)), plain) > 1e-3


@pytest.mark.parametrize("facts", FACTS)
def test_a_packed_row_equals_its_documents_alone(facts):
    decoder, rng = small_decoder(**facts), random.Random(1)
    for trial in range(4):
        lengths = [rng.randint(1, 9) for _ in range(rng.randint(1, 5))]
        ids = random_ids(1, sum(lengths), trial)
        positions, starts = packed_row(lengths)
        with torch.no_grad():
            packed = decoder(ids, positions=positions, first_visible=starts)
            begin = 0
            for length in lengths:
                alone = decoder(ids[:, begin : begin + length], rope_length=ids.shape[1])  # one rope rule for both
                torch.testing.assert_close(packed[:, begin : begin + length], alone, atol=1e-5, rtol=1e-5)
                begin += length


@needs.compiled_kernels
@pytest.mark.parametrize("facts", FACTS)
def test_a_packed_row_equals_its_documents_alone_through_kernels(facts):
    """bf16; other block borders sum in another order, and a last bit (2**-8) that differs early grows with these large weights."""
    decoder = small_decoder(torch.bfloat16, **facts)
    lengths = [40, 3, 70, 1, 20]
    ids = random_ids(1, sum(lengths))
    positions, starts = packed_row(lengths)
    packed = decoder(ids, positions=positions, first_visible=starts)
    begin = 0
    for length in lengths:
        alone = decoder(ids[:, begin : begin + length], rope_length=ids.shape[1])
        assert distance(packed[:, begin : begin + length], alone) < 0.03
        begin += length


@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize("sizes", [[1] * 17, [16, 1], [5, 1, 1, 7, 3]])
def test_cached_in_chunks_equals_uncached(facts, sizes):
    decoder, ids = small_decoder(**facts), random_ids(2, 17)
    with torch.no_grad():
        whole = decoder(ids)
        cache = DenseCache(decoder.config, rows=2, capacity=20, dtype=torch.float32)
        parts, begin = [], 0
        for size in sizes:
            parts.append(decoder(ids[:, begin : begin + size], cache=cache, rope_length=17))
            begin += size
    assert cache.length == 17
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


@needs.compiled_kernels
@pytest.mark.parametrize("facts", FACTS)
def test_cached_in_chunks_equals_uncached_through_kernels(facts):
    """bf16, see above."""
    decoder, ids = small_decoder(torch.bfloat16, **facts), random_ids(2, 40)
    with torch.no_grad():
        whole = decoder(ids)
        cache = DenseCache(decoder.config, rows=2, capacity=48, dtype=torch.bfloat16)
        parts = [decoder(part, cache=cache, rope_length=40) for part in ids.split([20, 1, 5, 1, 13], dim=1)]
    assert distance(torch.cat(parts, 1), whole) < 0.03


@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_states_that_are_asked_for_are_those_of_all_and_the_cache_misses_nothing(facts, seed):
    rng = random.Random(seed)
    decoder, ids = small_decoder(torch.float64, **facts), random_ids(2, 20, seed)
    some = torch.tensor(sorted(rng.sample(range(15), rng.randrange(1, 15))))
    expected = decoder(ids, rope_length=20)
    cache = DenseCache(decoder.config, rows=2, capacity=20, dtype=torch.float64)
    places = decoder.places(torch.arange(15).expand(2, 15), 20)
    assert distance(decoder.run(decoder.embed(ids[:, :15]), places, cache=cache, wanted=some), expected[:, some]) < 1e-12
    assert distance(decoder(ids[:, 15:], cache=cache, rope_length=20), expected[:, 15:]) < 1e-12


@pytest.mark.parametrize("facts", FACTS)
def test_right_padding_does_not_change_earlier_columns(facts):
    decoder = small_decoder(**facts)
    with torch.no_grad():
        short = decoder(random_ids(1, 9), rope_length=15)
        padded = decoder(torch.cat((random_ids(1, 9), random_ids(1, 6, seed=5)), 1))
    torch.testing.assert_close(padded[:, :9], short, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("facts", FACTS)
def test_left_padding_equals_no_padding(facts):
    """The padding's ids are of no account; positions start at the first real column."""
    decoder, ids = small_decoder(**facts), random_ids(1, 9)
    columns = torch.arange(14)[None]
    starts = torch.where(columns < 5, columns, torch.tensor(5)).int()
    with torch.no_grad():
        alone = decoder(ids, rope_length=14)
        for seed in (1, 2):
            padded = torch.cat((random_ids(1, 5, seed), ids), 1)
            hidden = decoder(padded, positions=(columns - 5).clamp(min=0), first_visible=starts)
            torch.testing.assert_close(hidden[:, 5:], alone, atol=1e-5, rtol=1e-5)


@needs.compiled_kernels
@pytest.mark.parametrize("facts", FACTS)
def test_kernels_and_torch_agree_in_value_and_gradient(facts):
    """Both bf16 ways stand at the same distance from float32, which the 8 bits of bf16 set: some 2 % for these weights."""
    decoder, ids = small_decoder(torch.bfloat16, **facts), random_ids(2, 37)
    positions, starts = (tensor.expand(2, -1).contiguous() for tensor in packed_row([20, 2, 15]))

    def run() -> tuple[Tensor, Tensor]:
        decoder.zero_grad()
        hidden = decoder(ids, positions=positions, first_visible=starts)
        hidden.float().pow(2).mul(torch.linspace(0, 1, hidden.shape[-1])).sum().backward()
        gradients = [parameter.grad.float().flatten() for parameter in decoder.parameters() if parameter.grad is not None]
        return hidden.detach(), torch.cat(gradients)

    fast = run()
    with kernels.switched_off():
        slow = run()
        decoder = decoder.float()
        exact = run()
    for ours, plain, true in zip(fast, slow, exact, strict=True):
        assert distance(ours, true) < 1.3 * distance(plain, true) + 1e-3
        assert distance(ours, plain) < 0.05


def test_a_tied_head_is_the_embedding():
    tied, free = small_decoder(tie_word_embeddings=True), small_decoder()
    assert tied.head is None and tied.head_weight is tied.embedding.weight
    assert free.head is not None and free.head_weight is free.head.weight
    assert "head.weight" not in tied.state_dict() and "head.weight" in free.state_dict()
    tied.logits(tied(random_ids(1, 5))).sum().backward()
    assert tied.head_weight.grad is not None and tied.head_weight.grad.abs().sum(1).count_nonzero() == 30  # through the head: every row


@pytest.mark.parametrize(("rows", "dtype"), [(1, torch.bfloat16), (70, torch.bfloat16), (600, torch.bfloat16), (5, torch.float32)])
def test_logits_of_a_quantized_head_are_those_of_what_its_codes_stand_for(rows, dtype):
    """bf16: products are exact but for 2^-16 of a row's length where codes are multiplied, and rounded to bf16 with more rows."""
    decoder = small_decoder(dtype, vocab_size=300, logit_scale=0.5)
    assert isinstance(decoder.head, Matrix)
    decoder.head = QuantizedMatrix(decoder.head.weight.detach(), "int8")
    hidden = torch.randn(rows, decoder.config.hidden_size, generator=torch.Generator().manual_seed(rows)).to(dtype)
    with torch.no_grad():
        found = decoder.logits(hidden)
    expected = 0.5 * hidden.float() @ decoder.head.dequantized().T
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.02 if dtype == torch.bfloat16 else 1e-5, rtol=0.01)


def test_parameter_names_are_those_of_the_contract():
    names = set(small_decoder(norm="rms", embedding_norm=True, query_key_norm=True, query_key_value_bias=True).state_dict())
    layer = {"attention_norm.weight", "attention.qkv.weight", "attention.qkv.bias", "attention.output.weight",
             "attention.query_norm.weight", "attention.key_norm.weight", "feed_forward_norm.weight", "feed_forward.gate_up.weight",
             "feed_forward.down.weight"}  # fmt: skip
    ends = {"embedding.weight", "embedding_norm.weight", "final_norm.weight", "head.weight"}
    assert names == ends | {f"layers.{number}.{name}" for number in range(2) for name in layer}


def test_hidden_dropout_acts_in_training_alone():
    decoder, ids = small_decoder(hidden_dropout=0.5), random_ids(1, 6)
    assert torch.equal(decoder(ids), decoder(ids))
    decoder.train()
    assert not torch.equal(decoder(ids), decoder(ids))


def test_each_row_may_have_its_own_rope_length():
    """Rows beyond the trained length by different amounts: each equals itself alone."""
    decoder, ids = small_decoder(rope=RopeConfig(rule="stepped_ntk", original_length=8), query_scaling_length=8), random_ids(3, 40)
    lengths = [40, 8, 20]
    with torch.no_grad():
        together = decoder(ids, rope_length=lengths)
        for row, length in enumerate(lengths):
            torch.testing.assert_close(together[row, :length], decoder(ids[row : row + 1, :length])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stretches", [True, False])
def test_training_beyond_the_trained_length_stretches_only_where_the_config_says_so(stretches):
    facts: dict[str, Any] = {
        "rope": RopeConfig(rule="stepped_ntk", original_length=8),
        "query_scaling_length": 8,
        "max_position_embeddings": 8,
    }
    decoder, plain, ids = small_decoder(stretch_in_training=stretches, **facts), small_decoder(), random_ids(1, 20)
    with torch.no_grad():
        stretched = decoder.eval()(ids)
        assert torch.equal(decoder.train()(ids), stretched if stretches else plain(ids))
        assert torch.equal(decoder(ids[:, :8]), plain(ids[:, :8])) and not torch.equal(stretched, plain(ids))
