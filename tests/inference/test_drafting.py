"""The law of drafting: whoever guesses, and however badly, an answer is what the model alone would give."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch

from beichen.errors import SettingsError
from beichen.inference.api import Request, SamplingSettings
from beichen.inference.drafting import Drafter, Drafting, TextDrafter
from beichen.inference.engine import Engine
from beichen.inference.model_drafter import ModelDrafter
from beichen.nn.decoder import Decoder
from tests.inference.small_models import small_decoder
from tests.inference.test_drawing import chi_square
from tests.inference.test_engine import answer_of, check_end, engine_of, random_request


class RandomDrafter:
    """Guesses anything, sometimes nothing, sometimes less than it may."""

    def __init__(self, vocab_size: int) -> None:
        self.rng, self.vocab_size = random.Random(1), vocab_size

    def draft(self, texts: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[int]]:
        return [[self.rng.randrange(self.vocab_size) for _ in range(self.rng.randint(0, count))] for count in counts]


@cache
def target() -> Decoder:
    return small_decoder(seed=3)


def drafters() -> dict[str, Drafter]:
    return {
        "random": RandomDrafter(320), "text": TextDrafter(), "itself": ModelDrafter(target(), vocab_size=320),
        "another": ModelDrafter(small_decoder(seed=4, num_hidden_layers=1), vocab_size=320),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["random", "text", "itself", "another"])
@pytest.mark.parametrize(("blocks", "settings"), [(60, {}), (9, {"max_rows": 5, "step_tokens": 9}), (9, {"share_prefixes": False})])
def test_drafts_change_no_greedy_answer(name, blocks, settings):
    """With arrivals, cancellation, preemption and shared beginnings; stop ids and longest lengths within drafts."""
    decoder, rng = target(), random.Random(blocks)
    engine = engine_of(decoder, blocks=blocks, drafting=Drafting(drafter=drafters()[name], tokens=5, most_rows=8), **settings)
    beginnings = [[rng.randrange(320) for _ in range(60)] for _ in range(2)]
    waiting = [random_request(rng, beginnings) for _ in range(30)]
    running, done = [], []
    while waiting or engine.busy:
        while waiting and rng.random() < 0.4:
            running.append(engine.submit(waiting.pop()))
        if running and rng.random() < 0.04:
            engine.cancel(rng.choice(running))
        engine.step()
        engine.check_integrity()
        done += [sequence for sequence in running if sequence.finish_reason is not None]
        running = [sequence for sequence in running if sequence.finish_reason is None]
    assert len(done) == 30 and engine.blocks.free == engine.blocks.count
    assert engine.drafted > 50 or name == "text"
    assert engine.accepted > 0.5 * engine.drafted or name != "itself"  # its rope rule is that of the text so far, not of its end
    for sequence in done:
        check_end(decoder, sequence)


def test_a_text_that_repeats_itself_takes_fewer_steps():
    decoder = target()
    prompt = [5, 6, 7, 8] * 6
    plain, drafting = engine_of(decoder, blocks=60), engine_of(decoder, blocks=60, drafting=Drafting(drafter=TextDrafter(), tokens=6))
    answers, steps = [], []
    for engine in (plain, drafting):
        sequence = engine.submit(Request(prompt_ids=prompt, max_new_tokens=100))
        steps.append(0)
        while engine.busy:
            engine.step()
            steps[-1] += 1
        answers.append(answer_of(sequence))
    assert answers[0] == answers[1] and steps[1] == 100 - drafting.accepted < steps[0]


def test_drawn_answers_have_the_distribution_of_the_model():
    """The second id after each first one, over many seeds, drafted by somebody who knows nothing, against the model's own softmax."""
    decoder = small_decoder(vocab_size=12, num_hidden_layers=1)
    drafting = Drafting(drafter=RandomDrafter(12), tokens=2, most_rows=64)
    engine = Engine(decoder, kv_bytes=1 << 22, block_size=16, max_rows=64, drafting=drafting)
    prompt, draws = [3, 1, 4], 6000
    sampling = [SamplingSettings(temperature=0.8, top_k=9, seed=seed) for seed in range(draws)]
    sequences = [engine.submit(Request(prompt_ids=prompt, max_new_tokens=3, sampling=one)) for one in sampling]
    while engine.busy:
        engine.step()
    answers = np.array([answer_of(sequence) for sequence in sequences])
    assert engine.drafted > engine.accepted > 50
    held = 0
    for first in range(12):
        seconds = answers[answers[:, 0] == first, 1]
        if len(seconds) < 300:
            continue
        with torch.no_grad():
            logits = decoder.logits(decoder(torch.tensor([[*prompt, first]]))[0, -1]) / 0.8
        logits[logits < logits.topk(9).values[-1]] = -torch.inf
        expected = logits.double().softmax(0).numpy() * len(seconds)
        counts, possible = np.bincount(seconds, minlength=12), expected > 0
        freedom, held = possible.sum() - 1, held + 1
        assert counts[~possible].sum() == 0
        assert chi_square(counts[possible], expected[possible]) < freedom + 4 * np.sqrt(2 * freedom) + 10
    assert held > 3


def test_rows_whose_history_matters_are_not_drafted():
    drafting = Drafting(drafter=RandomDrafter(320))
    engines = [engine_of(target(), blocks=60), engine_of(target(), blocks=60, drafting=drafting)]
    for sampling, lasting in (
        (SamplingSettings(repetition_penalty=1.3), 0),
        (SamplingSettings(logit_bias={3: 5.0}), 0),
        (SamplingSettings(), 20),
    ):
        request = Request(prompt_ids=[1, 2, 3], max_new_tokens=20, min_new_tokens=lasting, stop_ids=(3,), sampling=sampling)
        answers = [engine.submit(request) for engine in engines]
        for engine in engines:
            while engine.busy:
                engine.step()
        assert answers[0].ids == answers[1].ids
    assert not engines[1].drafted


def test_logprobs_are_told_of_every_id():
    engines = [engine_of(target(), blocks=60), engine_of(target(), blocks=60, drafting=Drafting(drafter=drafters()["itself"]))]
    request = Request(prompt_ids=[9, 8], max_new_tokens=17, logprobs=2)
    told = []
    for engine in engines:
        sequence = engine.submit(request)
        while engine.busy:
            engine.step()
        assert [one.id for one in sequence.logprobs] == answer_of(sequence)
        told.append(torch.tensor([one.logprob for one in sequence.logprobs]))
    torch.testing.assert_close(told[0], told[1], atol=1e-4, rtol=0)  # float32, sums in another order


def test_a_draft_model_of_fewer_ids_is_refused():
    with pytest.raises(SettingsError, match="knows 12 ids, the model that it drafts for 320"):
        ModelDrafter(small_decoder(vocab_size=12), vocab_size=320)
