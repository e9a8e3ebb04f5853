"""Laws of generation: cached = uncached, batch = alone, padded = unpadded, chunked prefill = whole, stream = full decode."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.api import Completion, Request, SamplingSettings, join
from beichen.inference.generation import DecoderGenerator
from beichen.inference.stopping import text_of
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from tests.inference.small_models import small_decoder, small_tokenizer


def random_prompts(count: int, seed: int, longest: int = 20) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(320) for _ in range(rng.randint(1, longest))] for _ in range(count)]


@torch.no_grad()
def reference(decoder: Decoder, request: Request) -> Completion:
    """Greedy decoding without a cache: the whole sequence again for every id."""
    ids: list[int] = []
    length = len(request.prompt_ids) + request.max_new_tokens
    while len(ids) < request.max_new_tokens:
        hidden = decoder(torch.tensor([[*request.prompt_ids, *ids]]), rope_length=length)
        token = int(decoder.logits(hidden[0, -1]).argmax())
        if token in request.stop_ids:
            return Completion(text="", ids=tuple(ids), finish_reason="stop")
        ids.append(token)
    return Completion(text="", ids=tuple(ids), finish_reason="length")


EXPERTS = ExpertsConfig(num_experts=6, num_experts_per_token=2, intermediate_size=16, shared_intermediate_size=16, down_bias=True)
SHAPES: list[dict[str, object]] = [
    {}, {"query_key_norm": True, "num_key_value_heads": 4}, {"num_key_value_heads": 1}, {"experts": EXPERTS},
]  # fmt: skip


@pytest.mark.parametrize("changes", SHAPES)
def test_greedy_answers_equal_the_plain_loop(changes):
    """Prompts of all lengths, some beyond the trained length, where each length has a rope rule of its own."""
    decoder = small_decoder(seed=5, **changes)
    rng = random.Random(5)
    requests = [
        Request(prompt_ids=prompt, max_new_tokens=rng.randint(1, 24), stop_ids=rng.sample(range(320), 30))
        for prompt in random_prompts(40, 6, 70)
    ]
    expected = [reference(decoder, request) for request in requests]
    assert {answer.finish_reason for answer in expected} == {"stop", "length"}
    for generator in (DecoderGenerator(decoder, None), DecoderGenerator(decoder, None, max_rows=3, step_tokens=8)):
        assert generator.generate(requests) == expected
        assert [join(generator.stream(request)) for request in requests] == expected


SAMPLING = [SamplingSettings(temperature=1.0, seed=seed, top_p=0.95 if seed % 2 else None) for seed in range(12)]


def test_sampled_answers_depend_on_the_seed_alone():
    decoder, tokenizer = small_decoder(seed=6), small_tokenizer()
    generator = DecoderGenerator(decoder, tokenizer)
    requests = [
        Request(prompt_ids=prompt, max_new_tokens=15, stop_ids=tokenizer.stop_ids, sampling=sampling)
        for prompt, sampling in zip(random_prompts(12, 7), SAMPLING, strict=True)
    ]
    answers = generator.generate(requests)
    assert answers == [generator.generate([request])[0] for request in requests]
    assert answers == generator.generate(requests[::-1])[::-1]
    assert answers == [join(generator.stream(request)) for request in requests]
    assert len({answer.ids for answer in generator.generate([replace(requests[0], sampling=one) for one in SAMPLING])}) > 6


def test_joined_stream_is_the_full_decode_with_whole_characters():
    tokenizer = small_tokenizer()
    generator = DecoderGenerator(small_decoder(seed=7), tokenizer)
    for seed in range(20):
        request = Request(prompt_ids=[1, 2, 3], max_new_tokens=60, sampling=SamplingSettings(temperature=2.0, seed=seed))
        deltas = list(generator.stream(request))
        answer = join(deltas)
        assert answer.text == text_of(tokenizer, answer.ids)
        assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert answer == generator.generate([request])[0]


def test_stop_strings_end_the_answer_before_them_in_batch_and_stream():
    tokenizer = small_tokenizer()
    generator = DecoderGenerator(small_decoder(seed=8), tokenizer)
    sampling = [SamplingSettings(temperature=1.0, seed=seed) for seed in range(30)]
    free = generator.generate([Request(prompt_ids=[5, 6], max_new_tokens=40, sampling=one) for one in sampling])
    requests, rng = [], random.Random(1)
    for number, answer in enumerate(free):
        start = rng.randrange(max(1, len(answer.text) - 4))
        stops = (answer.text[start : start + 3] or "?", "certainly not there") if number % 3 else ()
        requests.append(Request(prompt_ids=[5, 6], max_new_tokens=40, sampling=sampling[number], stop_strings=stops))
    answers = generator.generate(requests)
    assert answers == [join(generator.stream(request)) for request in requests]
    stopped = 0
    for request, whole, answer in zip(requests, free, answers, strict=True):
        if request.stop_strings and request.stop_strings[0] in whole.text:
            stopped += 1
            assert answer.finish_reason == "stop"
            assert answer.text == whole.text[: whole.text.find(request.stop_strings[0])]
            assert whole.ids[: len(answer.ids)] == answer.ids and len(answer.ids) <= len(whole.ids)
        elif not request.stop_strings:
            assert answer == whole
    assert stopped >= 15


def test_a_stop_id_on_the_last_step_is_a_stop():
    decoder = small_decoder(seed=9)
    free = reference(decoder, Request(prompt_ids=[1, 2], max_new_tokens=5))
    at = next(index for index, token in enumerate(free.ids) if token not in free.ids[:index] and index)
    request = Request(prompt_ids=[1, 2], max_new_tokens=at + 1, stop_ids=[free.ids[at]])
    generator = DecoderGenerator(decoder, None)
    for answer in (generator.generate([request])[0], join(generator.stream(request))):
        assert answer.finish_reason == "stop" and answer.ids == free.ids[:at]


@pytest.mark.parametrize("stop", [{}, {"stop_strings": ("e",)}])
def test_logprobs_of_answer_and_prompt_are_those_of_one_plain_pass(stop):
    """Also where settings change what is chosen, and in a batch whose rows end at different places."""
    decoder, tokenizer = small_decoder(seed=3), small_tokenizer()
    generator = DecoderGenerator(decoder, tokenizer)
    sampling = [SamplingSettings(temperature=1.5, seed=seed, top_k=20, presence_penalty=1.0) for seed in range(8)]
    requests = [
        Request(prompt_ids=prompt, max_new_tokens=12, stop_ids=range(30, 70), sampling=one, logprobs=number % 4, prompt_logprobs=2, **stop)
        for number, (prompt, one) in enumerate(zip(random_prompts(8, 12), sampling, strict=True))
    ]
    answers = generator.generate([*requests, replace(requests[0], logprobs=None, prompt_logprobs=None)])
    assert answers[-1] == replace(answers[0], logprobs=None, prompt_logprobs=None)
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    for request, answer in zip(requests, answers, strict=False):
        ids = [*request.prompt_ids, *answer.ids]
        length = len(request.prompt_ids) + request.max_new_tokens
        with torch.no_grad():
            plain = decoder.logits(decoder(torch.tensor([ids]), rope_length=length))[0, :-1, : tokenizer.vocab_size].log_softmax(1)
        assert answer.logprobs is not None and answer.prompt_logprobs is not None and answer.prompt_logprobs[0] is None
        told = [*answer.prompt_logprobs[1:], *answer.logprobs]
        assert [one.id for one in told if one is not None] == ids[1:]
        for one, row in zip(told, plain, strict=True):
            assert one is not None and one.logprob == pytest.approx(float(row[one.id]), abs=1e-3)
            for token, value in one.top:
                assert value == pytest.approx(float(row[token]), abs=1e-3)
        assert [len(one.top) for one in answer.logprobs] == [request.logprobs] * len(answer.ids)
        streamed = join(generator.stream(request))
        assert replace(streamed, logprobs=None) == replace(answer, logprobs=None, prompt_logprobs=None)
        assert [one.id for one in streamed.logprobs or ()] == [one.id for one in answer.logprobs]


def test_no_stop_ends_an_answer_before_its_shortest_length():
    tokenizer = small_tokenizer()
    generator = DecoderGenerator(small_decoder(seed=8), tokenizer)
    requests = [
        Request(
            prompt_ids=[5, 6], max_new_tokens=30, min_new_tokens=seed % 12, stop_ids=range(100, 300), stop_strings=("e", "一", "t"),
            sampling=SamplingSettings(temperature=2.0, seed=seed),
        )
        for seed in range(40)
    ]  # fmt: skip
    answers = generator.generate(requests)
    assert answers == [join(generator.stream(request)) for request in requests]
    assert sum(answer.finish_reason == "stop" for answer in answers) > 30
    for request, answer in zip(requests, answers, strict=True):
        assert len(answer.ids) >= request.min_new_tokens
        assert answer.text.startswith(tokenizer.decode(answer.ids[: request.min_new_tokens]).rstrip("\ufffd"))


def test_ids_without_text_are_never_chosen():
    """An embedding may have more rows than the tokenizer has ids."""
    decoder, tokenizer = small_decoder(vocab_size=4000), small_tokenizer()
    answers = DecoderGenerator(decoder, tokenizer).generate([Request(prompt_ids=[9], max_new_tokens=50, sampling=one) for one in SAMPLING])
    assert all(token < tokenizer.vocab_size for answer in answers for token in answer.ids)


def test_faults_are_named():
    with pytest.raises(SettingsError, match="the prompt is empty"):
        Request(prompt_ids=[], max_new_tokens=1)
    with pytest.raises(SettingsError, match="max_new_tokens=0"):
        Request(prompt_ids=[1], max_new_tokens=0)
    with pytest.raises(SettingsError, match="holds id 320, but the model knows 0 to 319"):
        DecoderGenerator(small_decoder(), None).generate([Request(prompt_ids=[1, 320], max_new_tokens=1)])
    assert DecoderGenerator(small_decoder(), None).generate([]) == []
