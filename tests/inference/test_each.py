"""Any number of requests through ``Generator.each``: taken as there is room, answered as they end, freed when nobody wants the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from beichen.errors import BeichenError, SettingsError
from beichen.inference.api import Completion, Generator, Request
from beichen.inference.generation import WINDOWS, DecoderGenerator
from tests.inference.small_models import small_decoder, small_tokenizer

ROWS = 4


@pytest.fixture(scope="module")
def generator() -> DecoderGenerator:
    return DecoderGenerator(small_decoder(), small_tokenizer(), max_rows=ROWS)


def request(number: int) -> Request:
    return Request(prompt_ids=[1 + number % 200, 7], max_new_tokens=1 + number * 7 % 13)


def test_the_answers_are_those_of_generate_and_the_window_stays_full(generator):
    """Whenever an answer comes out, the generator holds as many requests as it may, or all that are left."""
    taken, count = 0, 40

    def source() -> Iterator[Request]:
        nonlocal taken
        for number in range(count):
            taken += 1
            yield request(number)

    as_protocol: Generator = generator  # what evaluation and others take
    answers, most_ahead = dict[int, Completion | BeichenError](), 0
    for place, answer in as_protocol.each(source()):
        answers[place] = answer
        most_ahead = max(most_ahead, taken - len(answers))
    assert most_ahead <= WINDOWS * ROWS and taken == count
    expected = generator.generate([request(number) for number in range(count)])
    assert [answers[number] for number in range(count)] == expected
    generator.engine.check_integrity()


def test_a_fault_is_told_in_place_of_its_answer(generator):
    requests = [request(1), Request(prompt_ids=[100_000], max_new_tokens=3), request(2)]
    answers = dict(generator.each(requests))
    assert isinstance(answers[1], SettingsError) and "100000" in str(answers[1])
    assert all(isinstance(answers[place], Completion) for place in (0, 2))
    assert list(generator.each([])) == []


def test_closing_frees_what_is_held(generator):
    free = generator.engine.blocks.free
    endless = generator.each(Request(prompt_ids=[5, 6], max_new_tokens=1 if number == 3 else 40) for number in range(10**9))
    next(endless)
    assert generator.engine.scheduler.running
    endless.close()
    assert not generator.engine.scheduler.running and not generator.engine.scheduler.waiting
    assert generator.engine.blocks.free == free
    generator.engine.check_integrity()
