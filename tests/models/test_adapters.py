"""Adapters under published names, in every family: patterns mean what they say, published matrices come back, nothing else is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from beichen.errors import SettingsError
from beichen.models.adapters import AdapterShape, Matrices, adapted_layers, attach, detach, fill, published
from beichen.models.linear_names import choose, places, shortest_ends
from beichen.models.registry import FAMILIES, load_family
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.nn.initialization import initialize
from beichen.nn.low_rank import LowRank
from beichen.nn.quantized import quantize

EQUAL_HEADS = ("telechat", "telechat52b", "qwen1")


def tiny(family: str, *, experts: bool = False) -> Decoder:
    mixture = ExpertsConfig(num_experts=4, num_experts_per_token=2, intermediate_size=8) if experts else None
    config = load_family(family).new_config(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, max_position_embeddings=32,
        num_key_value_heads=None if family in EQUAL_HEADS else 2, experts=mixture,
    )  # fmt: skip
    decoder = Decoder(replace(config, initializer_range=0.2))
    initialize(decoder, 0)
    return decoder.eval()


def adapted(family: str, *, dora: bool = False, experts: bool = False) -> tuple[Decoder, AdapterShape]:
    """All linear layers, of two ranks, every matrix drawn."""
    decoder, tables = tiny(family, experts=experts), load_family(family)
    chosen = choose(["all-linear"], tables, decoder)
    ends = {name.rpartition(".")[2]: 2 + number % 2 for number, name in enumerate(chosen)}
    shape = AdapterShape(alpha=4.0, ranks={name: ends[name.rpartition(".")[2]] for name in chosen}, dora=dora)
    attach(decoder, tables.names, shape, seed=0)
    return decoder, shape


@torch.no_grad()
def shake(decoder: Decoder) -> None:
    """Adapters that do something."""
    generator = torch.Generator().manual_seed(5)
    for layer in adapted_layers(decoder).values():
        assert isinstance(layer.adapter, LowRank)
        for b in layer.adapter.b:
            b.normal_(0.0, 0.2, generator=generator)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dora", [False, True])
def test_published_matrices_are_the_updates_of_published_tensors(family, dora):
    """Fold ours; then every published tensor has moved by scale B A of its own published adapter, DoRA's rows rescaled."""
    decoder, shape = adapted(family, dora=dora)
    shake(decoder)
    tables = load_family(family)
    before = {name: view.tensor().clone() for name, view in tables.names.views(tiny(family).state_dict(), decoder.config).items()}
    own, known = published(decoder, tables.names), places(tables.names, decoder)
    assert own.keys() == shape.ranks.keys()
    for layer in adapted_layers(decoder).values():
        assert isinstance(layer.adapter, LowRank)
        layer.full_weight().data.copy_(layer.adapter.folded(layer.full_weight()))
    detach(decoder)
    for name, view in tables.names.views(decoder.state_dict(), decoder.config).items():
        held = own.get(name.removesuffix(".weight"))
        expected = before[name]
        if held is not None:
            update = shape.scale(name.removesuffix(".weight")) * held.b @ held.a
            turned = known[name.removesuffix(".weight")].transposed
            expected = (expected.T if turned else expected) + update
            if held.magnitudes is not None:
                expected = expected * (held.magnitudes / expected.norm(dim=1))[:, None]
            expected = expected.T if turned else expected
        torch.testing.assert_close(view.tensor(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["telechat2", "ndl"])
def test_experts_are_adapted_together_and_each_by_its_own(family):
    decoder, shape = adapted(family, experts=True)
    tables = load_family(family)
    own = published(decoder, tables.names)
    matrices = {name: Matrices(held.a, torch.randn_like(held.b), None) for name, held in own.items()}
    fill(decoder, tables.names, matrices)
    again = published(decoder, tables.names)
    assert any(".3." in name and "expert" in name for name in again)
    assert all(torch.equal(again[name].b, held.b) and torch.equal(again[name].a, held.a) for name, held in matrices.items())
    one = next(name for name in shape.ranks if "expert" in name)
    with pytest.raises(SettingsError, match="1 of 4 experts of the layer are named"):
        attach(decoder, tables.names, AdapterShape(alpha=4.0, ranks={one: 2}), seed=0)


@pytest.mark.parametrize("dora", [False, True])
def test_they_begin_as_nothing_and_nothing_else_is_trained(dora):
    plain = tiny("telechat2")
    ids = torch.randint(0, 40, (2, 9))
    decoder, _ = adapted("telechat2", dora=dora)
    assert torch.equal(decoder(ids), plain(ids))
    assert all(parameter.requires_grad == (".adapter." in name) for name, parameter in decoder.named_parameters())
    assert not torch.equal(published(decoder, load_family("telechat2").names)["transformer.h.0.mlp.up_proj"].a.std(), torch.tensor(0.0))


def test_a_draws_by_name_not_by_order():
    decoder, tables = tiny("llama"), load_family("llama")
    some = [name for name in choose(["all-linear"], tables, decoder) if "layers.1" in name]
    attach(decoder, tables.names, AdapterShape(alpha=4.0, ranks=dict.fromkeys(reversed(some), 2)), seed=0)
    whole = tiny("llama")
    attach(whole, tables.names, AdapterShape(alpha=4.0, ranks=dict.fromkeys(choose(["all-linear"], tables, whole), 2)), seed=0)
    other = published(whole, tables.names)
    assert all(torch.equal(held.a, other[name].a) for name, held in published(decoder, tables.names).items())


def test_a_quantized_base_carries_the_same_adapters():
    decoder, tables = tiny("telechat2"), load_family("telechat2")
    quantize(decoder, "nf4")
    chosen = choose(["key_value", "dense"], tables, decoder)
    ids = torch.randint(0, 40, (1, 7))
    before = decoder(ids)
    attach(decoder, tables.names, AdapterShape(alpha=4.0, ranks=dict.fromkeys(chosen, 3)), seed=0)
    assert torch.equal(decoder(ids), before)
    shake(decoder)
    assert not torch.equal(decoder(ids), before) and list(published(decoder, tables.names)) == chosen


@pytest.mark.parametrize(
    ("family", "patterns", "chosen"),
    [
        ("llama", ["q_proj"], ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]),
        ("llama", ["model.layers.1.self_attn.[kv]_proj"], ["model.layers.1.self_attn.k_proj", "model.layers.1.self_attn.v_proj"]),
        ("qwen1", ["attn.c_proj"], ["transformer.h.0.attn.c_proj", "transformer.h.1.attn.c_proj"]),
        ("telechat2", ["wk_v"], ["transformer.h.0.self_attention.key_value", "transformer.h.1.self_attention.key_value"]),
        ("telechat2", ["*.h.0.*key_value", "wo"], ["transformer.h.0.self_attention.key_value", "transformer.h.0.self_attention.dense",
                                                   "transformer.h.1.self_attention.dense"]),
        ("telechat52b", ["w_qkv"], ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]),
    ],
)  # fmt: skip
def test_patterns(family, patterns, chosen):
    assert choose(patterns, load_family(family), tiny(family)) == chosen


def test_the_originals_all_linear_leaves_head_embedding_and_norms_out():
    ends = {name.rpartition(".")[2] for name in choose(["all-linear"], load_family("telechat2"), tiny("telechat2"))}
    assert ends == {"query", "key_value", "dense", "gate_proj", "up_proj", "down_proj"}


def test_a_pattern_that_means_nothing_names_what_is_near():
    with pytest.raises(SettingsError, match=r"'q_porj' is no linear layer of this llama model; near: model\.layers\.\*\.self_attn\.q_proj"):
        choose(["q_porj"], load_family("llama"), tiny("llama"))
    with pytest.raises(SettingsError, match="'w_qkv'"):  # two published layers in one: it would be one adapter there, and two here
        choose(["w_qkv"], load_family("telechat2"), tiny("telechat2"))


def test_shortest_ends_mean_the_chosen_ones_only():
    known = ["h.0.attn.c_proj", "h.0.mlp.c_proj", "h.0.mlp.w1", "h.1.attn.c_proj", "h.1.mlp.c_proj", "h.1.mlp.w1"]
    assert shortest_ends(known, known) == ["c_proj", "w1"]
    assert shortest_ends(["h.0.attn.c_proj", "h.1.attn.c_proj"], known) == ["attn.c_proj"]
    assert shortest_ends(["h.1.mlp.w1"], known) == ["1.mlp.w1"]
