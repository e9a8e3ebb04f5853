"""Several adapters over one base in one batch: each row is answered as by the plain loop with its adapter alone on the decoder."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.api import Request
from beichen.inference.generation import DecoderGenerator
from beichen.inference.sequence import Sequence
from beichen.models.linear_names import linear_layers
from beichen.nn.decoder import Decoder
from beichen.nn.low_rank import LowRank, Part
from beichen.nn.quantized import Kind, quantize
from beichen.nn.spans import Updates
from beichen.util.parts import done
from tests.inference.small_models import small_decoder
from tests.inference.test_engine import EXPERTS, answer_of, engine_of, is_the_plain_loop

NAMES = ["low", "lengths", "feed-forward"]
SHAPES: dict[str, dict[str, Any]] = {"dense": {}, "experts": {"experts": EXPERTS}}


@cache
def base_of(shape: str, held_as: Kind | None = None) -> Decoder:
    decoder = small_decoder(seed=3, **SHAPES[shape]).requires_grad_(False)
    if held_as is not None:
        quantize(decoder, held_as)
    return decoder


def low_ranks(decoder: Decoder, name: str) -> dict[str, LowRank]:
    """Random adapters of different ranks, scales and kinds; one of them leaves the attention alone."""
    generator = torch.Generator().manual_seed(NAMES.index(name))
    found = {}
    for layer, module in linear_layers(decoder).items():
        if name == "feed-forward" and "attention" in layer:
            continue
        *experts, rows, columns = module.shape
        parts = [Part(0, rows // 2, rank=3, scale=0.7), Part(rows // 2, rows, rank=2 + NAMES.index(name), scale=1.5)]
        adapter = LowRank(columns, rows, parts, experts=experts[0] if experts else None, magnitudes=name == "lengths")
        for parameter in (adapter.a, *adapter.b):
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
        for magnitude in adapter.magnitudes or ():
            torch.nn.init.uniform_(magnitude, 0.5, 2.0, generator=generator)
        found[layer] = adapter.requires_grad_(False).eval()
    return found


def beside(decoder: Decoder, name: str) -> Updates:
    layers = linear_layers(decoder)
    found = low_ranks(decoder, name)
    for layer, adapter in found.items():
        adapter.settle(layers[layer])
    return {layers[layer]: adapter for layer, adapter in found.items()}


@cache
def alone(shape: str, name: str | None, held_as: Kind | None = None) -> Decoder:
    """The reference: a decoder that carries one adapter, as after training."""
    decoder = copy.deepcopy(base_of(shape, held_as))
    if name is not None:
        layers = linear_layers(decoder)
        for layer, adapter in low_ranks(decoder, name).items():
            layers[layer].adapter = adapter
    return decoder


@pytest.mark.parametrize(("shape", "held_as"), [("dense", None), ("experts", None), ("dense", "int8")])
@pytest.mark.parametrize(("blocks", "settings"), [(60, {}), (6, {"max_rows": 5, "step_tokens": 9})])
def test_each_row_is_answered_as_with_its_adapter_alone(shape, held_as, blocks, settings):
    """Random arrivals of the base's and three adapters' requests that begin alike, with preemption where blocks are few."""
    base, rng = base_of(shape, held_as), random.Random(blocks)
    engine = engine_of(base, blocks=blocks, adapters={name: beside(base, name) for name in NAMES}, **settings)
    beginning = [rng.randrange(320) for _ in range(40)]
    waiting = [
        Request(
            prompt_ids=[*beginning[: rng.choice([0, 20, 40])], *(rng.randrange(320) for _ in range(rng.randint(1, 9)))],
            max_new_tokens=rng.choice([1, 6, 12]), adapter=rng.choice([None, *NAMES]), owner=rng.choice("ab"),
        )
        for _ in range(20)
    ]  # fmt: skip
    sequences: list[Sequence] = []
    mixed = shared = 0
    while waiting or engine.busy:
        while waiting and rng.random() < 0.6:
            sequences.append(engine.submit(waiting.pop()))
        mixed += len({sequence.request.adapter for sequence in engine.step()}) > 1
        shared += sum(sequence.shared for sequence in engine.scheduler.running)
        engine.check_integrity()
    assert mixed and shared and bool(engine.scheduler.preemptions) == (blocks < 20)
    for sequence in sequences:
        assert is_the_plain_loop(alone(shape, sequence.request.adapter, held_as), sequence.request, answer_of(sequence))
    answers = {tuple(answer_of(one)[:1]) for one in sequences}
    assert len(answers) > 4, "adapters change answers"


def test_logits_are_within_rounding_of_the_adapter_alone():
    """The stated tolerance in float32: 1e-4, prompt and answer."""
    base = base_of("dense")
    engine = engine_of(base, blocks=40, adapters={name: beside(base, name) for name in NAMES})
    prompts = {name: list(range(number + 1, number + 30)) for number, name in enumerate([None, *NAMES])}
    sequences = [
        engine.submit(Request(prompt_ids=ids, max_new_tokens=5, adapter=name, logprobs=3, prompt_logprobs=0))
        for name, ids in prompts.items()
    ]
    while engine.busy:
        engine.step()
    for sequence in sequences:
        request = sequence.request
        ids = sequence.ids
        length = len(request.prompt_ids) + 5
        decoder = alone("dense", request.adapter)
        with torch.no_grad():
            expected = decoder.logits(decoder(torch.tensor([ids]), rope_length=length))[0].log_softmax(-1)
        told = [*done(engine.prompt_logprobs(request)), *sequence.logprobs]
        for place, one in enumerate(told[1:]):
            assert one is not None
            assert abs(one.logprob - float(expected[place, one.id])) < 1e-4


def test_only_the_same_adapter_shares_a_beginning():
    base, prompt = base_of("dense"), list(range(50))
    engine = engine_of(base, blocks=60, adapters={name: beside(base, name) for name in NAMES})
    shared = []
    for name in (None, "low", "low", "lengths", None):
        sequence = engine.submit(Request(prompt_ids=prompt, max_new_tokens=2, adapter=name))
        engine.step()
        shared.append(sequence.shared)
        while engine.busy:
            engine.step()
    assert shared == [0, 0, 48, 0, 48]


def test_an_adapter_that_is_not_here_is_refused_by_name():
    base = base_of("dense")
    generator = DecoderGenerator(base, None, adapters={"low": beside(base, "low")}, kv_bytes=1 << 20)
    with pytest.raises(SettingsError, match=r"no adapter 'lo'.*low"):
        generator.generate([Request(prompt_ids=[1], max_new_tokens=1, adapter="lo")])
    with pytest.raises(SettingsError, match="without adapters"):
        DecoderGenerator(base, None, kv_bytes=1 << 20).check(Request(prompt_ids=[1], max_new_tokens=1, adapter="low"))


def test_the_compiled_step_moves_each_row_by_its_own_adapter():
    """In bfloat16, where the base's step is one kernel: with company or without, as near to the truth as with the adapter alone."""
    base = copy.deepcopy(base_of("dense")).bfloat16()
    adapters = {name: beside(base, name) for name in NAMES}
    for layer, adapter in [pair for updates in adapters.values() for pair in updates.items()]:
        assert isinstance(adapter, LowRank)
        adapter.bfloat16().settle(layer)
    generator = DecoderGenerator(base, None, adapters=adapters, kv_bytes=1 << 20)
    requests = [Request(prompt_ids=[row + 1], max_new_tokens=4, adapter=[None, *NAMES][row % 4], logprobs=0) for row in range(7)]
    for some in (requests, requests[:1], requests[1:2]):
        for request, answer in zip(some, generator.generate(some), strict=True):
            ids = [*request.prompt_ids, *answer.ids]
            exact = alone("dense", request.adapter)
            rounded = copy.deepcopy(exact).bfloat16()
            with torch.no_grad():
                true, near = (
                    decoder.logits(decoder(torch.tensor([ids]), rope_length=5))[0].log_softmax(-1) for decoder in (exact, rounded)
                )
            for place, one in enumerate(answer.logprobs or ()):
                assert abs(one.logprob - float(true[place, one.id])) < 1.5 * float((true - near).abs().max())
