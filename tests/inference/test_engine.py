"""The law of the engine: whatever joins, leaves, shares, is pushed out or cancelled, each answer is the plain loop's."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.api import Request, SamplingSettings
from beichen.inference.engine import Engine
from beichen.inference.sequence import Sequence
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.nn.greedy import greedy_logits
from tests.inference.small_models import small_decoder

EXPERTS = ExpertsConfig(num_experts=6, num_experts_per_token=2, intermediate_size=16, shared_intermediate_size=16, down_bias=True)
SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {}, "normed": {"query_key_norm": True, "num_key_value_heads": 4}, "one key head": {"num_key_value_heads": 1},
    "experts": {"experts": EXPERTS}, "queries scaled": {"query_scaling_length": 20},
}  # fmt: skip
CLOSE = 1e-3  # two logits nearer than this may change places with the order of a sum


@cache
def decoder_of(shape: str) -> Decoder:
    return small_decoder(seed=3, **SHAPES[shape])


def engine_of(decoder: Decoder, *, blocks: int, **settings: Any) -> Engine:
    engine = Engine(decoder, kv_bytes=1 << 20, block_size=16, **settings)
    per_block = engine.pool.keys.nbytes * 2 // engine.pool.blocks
    return Engine(decoder, kv_bytes=blocks * per_block, block_size=16, **settings)


def random_request(rng: random.Random, beginnings: list[list[int]]) -> Request:
    """Some begin as others do; lengths on both sides of the trained one, where each has a rope rule of its own."""
    prompt = rng.choice(beginnings)[: rng.randrange(60)] if rng.random() < 0.7 else []
    prompt = prompt + [rng.randrange(320) for _ in range(rng.randint(1, 20))]
    return Request(
        prompt_ids=prompt, max_new_tokens=rng.choice([1, 3, 12, 25]), stop_ids=rng.sample(range(320), rng.choice([0, 20])),
        priority=rng.choice([0, 0, 1]), owner=rng.choice("ab"),
    )  # fmt: skip


@torch.no_grad()
def is_the_plain_loop(decoder: Decoder, request: Request, answer: list[int]) -> bool:
    """Token for token; an answer may leave the loop where its two likeliest are closer than ``CLOSE``."""
    length = len(request.prompt_ids) + request.max_new_tokens
    for given, logits in zip(answer, greedy_logits(decoder, torch.tensor(request.prompt_ids), length=length), strict=False):
        best = logits.topk(2)
        if given != int(best.indices[0]):
            return float(best.values[0] - best.values[1]) < CLOSE
    return True


def answer_of(sequence: Sequence) -> list[int]:
    return sequence.ids[len(sequence.request.prompt_ids) :]


def check_end(decoder: Decoder, sequence: Sequence) -> None:
    """What has ended is the plain loop's answer, and says rightly why it ended; one that was cancelled ends anywhere."""
    answer, request = answer_of(sequence), sequence.request
    assert is_the_plain_loop(decoder, request, answer)
    if sequence.finish_reason == "length":
        assert len(answer) == request.max_new_tokens and not set(answer) & set(request.stop_ids)
    elif sequence.finish_reason == "stop":
        assert answer[-1] in request.stop_ids and not set(answer[:-1]) & set(request.stop_ids)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("blocks", "settings"),
    [(60, {}), (9, {"max_rows": 5, "step_tokens": 9}), (9, {"step_tokens": 40, "max_rows": 8, "share_prefixes": False})],
)
def test_random_arrivals_preemption_cancellation_and_sharing_change_nothing(shape, blocks, settings):
    decoder, rng = decoder_of(shape), random.Random(blocks)
    engine = engine_of(decoder, blocks=blocks, **settings)
    beginnings = [[rng.randrange(320) for _ in range(60)] for _ in range(2)]
    waiting = [random_request(rng, beginnings) for _ in range(40)]
    running: list[Sequence] = []
    done: list[Sequence] = []
    cancelled = shared = 0
    while waiting or engine.busy:
        while waiting and rng.random() < 0.5:
            running.append(engine.submit(waiting.pop()))
        if running and rng.random() < 0.04:
            one = rng.choice(running)
            engine.cancel(one)
            cancelled += one.finish_reason == "cancelled"
        for sequence in engine.step():
            assert sequence in running
        shared += sum(sequence.shared for sequence in engine.scheduler.running)
        engine.check_integrity()
        done += [sequence for sequence in running if sequence.finish_reason is not None]
        running = [sequence for sequence in running if sequence.finish_reason is None]
    assert len(done) == 40 and engine.blocks.free == engine.blocks.count
    assert cancelled and bool(engine.scheduler.preemptions) == (blocks < 20)
    assert shared or not engine.share_prefixes
    for sequence in done:
        check_end(decoder, sequence)


def test_ten_thousand_requests_leave_no_block_behind():
    """Of a model with one tiny layer, so that all the comings and goings take seconds."""
    decoder, rng = (
        small_decoder(num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=1, num_key_value_heads=1),
        random.Random(0),
    )
    engine = engine_of(decoder, blocks=40, max_rows=16, step_tokens=64)
    beginning = [rng.randrange(320) for _ in range(40)]
    running: list[Sequence] = []
    submitted = 0
    while submitted < 10_000 or engine.busy:
        for _ in range(rng.randrange(12)):
            if submitted < 10_000:
                prompt = [*beginning[: rng.randrange(40)], rng.randrange(320)]
                running.append(engine.submit(Request(prompt_ids=prompt, max_new_tokens=rng.randint(1, 6), owner=rng.choice("abc"))))
                submitted += 1
        engine.step()
        running = [sequence for sequence in running if sequence.finish_reason is None]
        if running and rng.random() < 0.3:
            engine.cancel(rng.choice(running))
        if rng.random() < 0.02:
            engine.check_integrity()
    engine.check_integrity()
    assert engine.blocks.free == engine.blocks.count and not engine.scheduler.waiting


def test_a_shared_beginning_is_computed_once():
    decoder = decoder_of("grouped")
    engine = engine_of(decoder, blocks=40)
    prompt = list(range(50))
    first = engine.submit(Request(prompt_ids=prompt, max_new_tokens=2))
    while engine.busy:
        engine.step()
    second = engine.submit(Request(prompt_ids=[*prompt[:40], 7, 8], max_new_tokens=10))
    engine.step()
    assert (first.shared, second.shared) == (0, 32)


def test_owners_take_turns_and_priority_comes_first():
    engine = engine_of(decoder_of("grouped"), blocks=40, max_rows=1)
    order: list[str] = []
    sequences = {engine.submit(Request(prompt_ids=[1], max_new_tokens=1, owner="many")): f"many{number}" for number in range(4)}
    sequences[engine.submit(Request(prompt_ids=[1], max_new_tokens=1, owner="one"))] = "one"
    sequences[engine.submit(Request(prompt_ids=[1], max_new_tokens=1, owner="many", priority=1))] = "urgent"
    while engine.busy:
        order += [sequences[sequence] for sequence in engine.step()]
    assert order == ["urgent", "many0", "one", "many1", "many2", "many3"]


def test_company_changes_no_sampled_answer():
    decoder, rng = decoder_of("grouped"), random.Random(2)
    requests = [
        Request(prompt_ids=[rng.randrange(320) for _ in range(rng.randint(1, 30))], max_new_tokens=15,
                sampling=SamplingSettings(temperature=1.0, seed=seed, top_p=0.9 if seed % 2 else None))
        for seed in range(12)
    ]  # fmt: skip
    together, alone = engine_of(decoder, blocks=60), engine_of(decoder, blocks=60, share_prefixes=False)
    many = [together.submit(request) for request in requests]
    while together.busy:
        together.step()
    for request, sequence in zip(requests, many, strict=True):
        own = alone.submit(request)
        while alone.busy:
            alone.step()
        assert own.ids == sequence.ids


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (Request(prompt_ids=[1, 320], max_new_tokens=1), "id 320, but the model knows 0 to 319"),
        (Request(prompt_ids=[1] * 60, max_new_tokens=5), "may reach 65 tokens, and the key-value cache holds 64"),
    ],
)
def test_what_could_never_be_answered_is_refused_at_once(request_, fault):
    engine = engine_of(decoder_of("grouped"), blocks=4)
    with pytest.raises(SettingsError, match=fault):
        engine.submit(request_)
    assert not engine.busy
