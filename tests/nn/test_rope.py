"""Rotary embedding: scores see distance alone, every rule equals its scalar formula, and tables never change what they once said."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from beichen.nn.config import RopeConfig
from beichen.nn.rope import RULES, RopeTables, default_frequencies, rope_rule, rotate, step_factor, yarn_attention_scale
from tests.nn.slow_decoder import slow_frequencies, slow_rotate

LLAMA3 = RopeConfig(base=500000.0, rule="llama3", factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_length=64)
YARN = RopeConfig(base=500000.0, rule="yarn", factor=8.0, original_length=64, attention_scale=1.2)
TELECHAT = RopeConfig(rule="scaled_stepped_ntk", original_length=64, trained_length=256)
EXAMPLES = [
    RopeConfig(), RopeConfig(base=500000.0), RopeConfig(rule="linear", factor=3.5), LLAMA3,
    RopeConfig(rule="llama3", factor=32.0, low_frequency_factor=0.5, high_frequency_factor=7.0, original_length=100),
    TELECHAT, RopeConfig(rule="scaled_stepped_ntk", original_length=100, trained_length=60),
    RopeConfig(rule="ntk", factor=3.0), RopeConfig(rule="dynamic_ntk", original_length=64, base=5000.0),
    RopeConfig(rule="dynamic_ntk", original_length=60, factor=2.5), RopeConfig(rule="stepped_ntk", original_length=64),
    RopeConfig(rule="stepped_base", original_length=60), YARN,
    RopeConfig(rule="yarn", factor=4.0, original_length=200, fast_turns=16.0, slow_turns=2.0, whole_pairs=False),
]  # fmt: skip


def test_every_rule_has_an_example():
    assert {config.rule for config in EXAMPLES} == RULES.keys()


@pytest.mark.parametrize("shift", [1, 37, 512])
@pytest.mark.parametrize("config", EXAMPLES)
def test_scores_see_only_distance(config, shift):
    """<R(m) q, R(n) k> = <R(m + s) q, R(n + s) k>, under one rule."""
    generator = torch.Generator().manual_seed(shift)
    q, k = torch.randn(2, 1, 8, 2, 32, generator=generator).unbind(0)

    def scores(start: int) -> torch.Tensor:
        cos, sin = RopeTables(config, 32).rows(torch.arange(start, start + 8)[None], 600)
        return torch.einsum("bthd,bshd->bhts", rotate(q, cos, sin), rotate(k, cos, sin))

    # angles up to 600 radians carry float32 errors of 600 * 2**-24, scores are of size sqrt(32)
    torch.testing.assert_close(scores(0), scores(shift), atol=2e-3, rtol=0)


@pytest.mark.parametrize("config", EXAMPLES)
@pytest.mark.parametrize("head_dim", [4, 6, 64])
def test_equals_the_scalar_formula(config, head_dim):
    rng = random.Random(head_dim)
    for length in (1, 60, 64, 65, 128, 200, 257, 1000, 5000):
        rule = rope_rule(config, head_dim, length)
        angles, scale = slow_frequencies(config, head_dim, length)
        assert rule.attention_scale == pytest.approx(scale, rel=1e-12)
        torch.testing.assert_close(rule.inverse_frequencies.double(), torch.tensor(angles, dtype=torch.float64), rtol=1e-6, atol=0)
        position = rng.randrange(min(length, 100))
        head = torch.randn(head_dim, generator=torch.Generator().manual_seed(length))
        cos, sin = RopeTables(config, head_dim).rows(torch.tensor([[position]]), length)
        found = rotate(head[None, None, None], cos, sin)[0, 0, 0]
        torch.testing.assert_close(found.double(), slow_rotate(head.double(), position, angles, scale), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (RopeConfig(base=500000.0), {"rope_type": "default"}),
        (RopeConfig(base=500000.0, rule="linear", factor=4.0), {"rope_type": "linear", "factor": 4.0}),
        (LLAMA3, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 64}),
        (replace(YARN, attention_scale=yarn_attention_scale(8.0)), {"rope_type": "yarn", "factor": 8.0,
                                                                    "original_max_position_embeddings": 64}),
    ],
)  # fmt: skip
def test_equals_transformers(config, parameters):
    """An independent source pins which channels make a pair, and the ramps of Llama 3 and yarn."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    parameters = {"rope_theta": 500000.0, **parameters}
    published = LlamaConfig(hidden_size=64, num_attention_heads=2, head_dim=32, max_position_embeddings=512, rope_parameters=parameters)
    q = torch.randn(2, 90, 2, 32, generator=torch.Generator().manual_seed(1))
    positions = torch.randint(0, 500, (2, 90), generator=torch.Generator().manual_seed(2))
    their_cos, their_sin = LlamaRotaryEmbedding(published)(q, positions)
    theirs, _ = apply_rotary_pos_emb(q.transpose(1, 2), q.transpose(1, 2), their_cos, their_sin)
    cos, sin = RopeTables(config, 32).rows(positions, 500)
    torch.testing.assert_close(rotate(q, cos, sin), theirs.transpose(1, 2), atol=3e-4, rtol=0)  # 500 radians * 2**-24, twice


def test_step_factor_steps():
    """1 up to B, 3 up to 2B, 7 up to 4B, ...; a step is taken at the first length beyond, exactly, for every B."""
    for original in (1, 2, 7, 64, 100, 4096, 8192):
        assert step_factor(1, original) == step_factor(original, original) == 1
        for steps in range(1, 8):
            below, beyond = original * 2 ** (steps - 1), original * 2**steps
            assert step_factor(below + 1, original) == step_factor(beyond, original) == 2 ** (steps + 1) - 1
    lengths = [step_factor(length, 50) for length in range(1, 1000)]
    assert lengths == sorted(lengths) and set(lengths) == {1, 3, 7, 15, 31, 63}


def test_scale_grows_beyond_the_trained_length_alone():
    scales = [rope_rule(TELECHAT, 16, length).attention_scale for length in range(1, 700)]
    assert scales[:256] == [1.0] * 256
    assert all(later > earlier for earlier, later in pairwise(scales[255:]))
    assert rope_rule(TELECHAT, 16, 512).attention_scale == pytest.approx(1 + 0.1 * math.log(2))
    assert torch.equal(rope_rule(TELECHAT, 16, 1).inverse_frequencies, rope_rule(TELECHAT, 16, 256).inverse_frequencies)


@pytest.mark.parametrize(
    "config", [RopeConfig(rule=rule, original_length=64, base=5000.0) for rule in ("dynamic_ntk", "stepped_ntk", "stepped_base")]
)
def test_a_rule_of_length_stretches_beyond_the_original_length_alone(config):
    """Up to it: the plain rope, exactly. Beyond: every pair but the first ever slower (in steps, or with each token)."""
    plain = rope_rule(RopeConfig(base=5000.0), 16, 64)
    rules = [rope_rule(config, 16, length) for length in range(1, 400)]
    for length, rule in enumerate(rules, start=1):
        assert torch.equal(rule.inverse_frequencies, plain.inverse_frequencies) == (length <= 64) == (rule.stretch == 1)
        assert rule.inverse_frequencies[0] == 1 and rule.attention_scale == 1.0
    for earlier, later in pairwise(rules):
        assert bool((later.inverse_frequencies <= earlier.inverse_frequencies).all())
    changes = sum(earlier.stretch != later.stretch for earlier, later in pairwise(rules))
    assert changes == (335 if config.rule == "dynamic_ntk" else 3)


@pytest.mark.parametrize("factor", [2.0, 3.5])
def test_ntk_slows_the_last_pair_by_the_factor_and_the_first_not_at_all(factor):
    plain, stretched = (rope_rule(RopeConfig(rule=rule, factor=factor), 32, 10).inverse_frequencies for rule in ("default", "ntk"))
    assert stretched[0] == plain[0]
    assert float(plain[-1] / stretched[-1]) == pytest.approx(factor, rel=1e-5)
    assert bool(((plain / stretched).diff() > 0).all())


@pytest.mark.parametrize("config", [LLAMA3, YARN, replace(YARN, whole_pairs=False)])
def test_slow_pairs_are_divided_and_fast_ones_kept(config):
    """Pairs between lie between; the share divided grows with the pair."""
    ratio = default_frequencies(config.base, 64) / rope_rule(config, 64, 10).inverse_frequencies
    assert float(ratio[0]) == 1.0 and float(ratio[-1]) == pytest.approx(config.factor)
    assert bool((ratio.diff() >= 0).all()) and bool(((ratio > 1.01) & (ratio < config.factor - 0.01)).any())


def test_only_the_tables_asked_for_last_are_kept():
    tables = RopeTables(RopeConfig(rule="dynamic_ntk", original_length=4), 8)
    for length in [*range(1, 100), 3]:
        tables.rows(torch.zeros(1, 1, dtype=torch.int64), length)
    assert len(tables._tables) == tables.kept


@pytest.mark.parametrize("config", EXAMPLES)
def test_position_zero_stays_and_lengths_stay(config):
    x = torch.randn(1, 40, 3, 16, generator=torch.Generator().manual_seed(0))
    cos, sin = RopeTables(config, 16).rows(torch.arange(40)[None], 40)
    turned = rotate(x, cos, sin)
    scale = rope_rule(config, 16, 40).attention_scale
    torch.testing.assert_close(turned[:, 0], x[:, 0] * scale)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1) * scale)
    assert rotate(x.bfloat16(), cos, sin).dtype == torch.bfloat16


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.integers(0, 10**6), st.sampled_from(EXAMPLES))
def test_tables_say_the_same_in_any_order_of_asking(lengths, seed, config):
    """A table that has grown, or served other lengths before, gives what a fresh one gives."""
    tables, rng = RopeTables(config, 8), random.Random(seed)
    for length in lengths:
        positions = torch.tensor([[rng.randrange(length) for _ in range(5)]])
        old, new = tables.rows(positions, length), RopeTables(config, 8).rows(positions, length)
        assert all(torch.equal(left, right) for left, right in zip(old, new, strict=True))
