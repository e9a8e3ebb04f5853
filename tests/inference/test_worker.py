"""The engine in its own thread: everybody who asked is told how it ended, whatever happens to the others or to the engine."""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.errors import BeichenError, OverloadError, SettingsError
from beichen.inference.api import Completion, Delta, Request, SamplingSettings, join
from beichen.inference.generation import DecoderGenerator
from beichen.inference.worker import CROWD, LONGEST_PAUSE, PIECES, EngineWorker, Pauses, Piece, Ticket
from tests.inference.small_models import small_decoder, small_tokenizer


class Heard:
    """What was delivered, in order."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[Piece] = queue.Queue()

    def __call__(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self.pieces.put(piece)

    def until_ended(self, tickets: Sequence[Ticket]) -> dict[Ticket, list[Delta | BeichenError]]:
        told: dict[Ticket, list[Delta | BeichenError]] = {ticket: [] for ticket in tickets}
        left = set(tickets)
        while left:
            ticket, piece = self.pieces.get(timeout=60)
            told.setdefault(ticket, []).append(piece)
            if isinstance(piece, BeichenError) or piece.finish_reason is not None:
                left.discard(ticket)
        return told


@contextmanager
def at_work(**limits: Any) -> Iterator[tuple[EngineWorker, Heard]]:
    heard = Heard()
    worker = EngineWorker(DecoderGenerator(small_decoder(seed=2), small_tokenizer(), kv_bytes=1 << 20), heard, **limits)
    worker.start()
    try:
        yield worker, heard
    finally:
        assert worker.stop(timeout=60)


def request(seed: int, tokens: int = 12) -> Request:
    return Request(prompt_ids=[seed, 5, 6], max_new_tokens=tokens, sampling=SamplingSettings(temperature=1.0, seed=seed))


def joined(pieces: Sequence[Delta | BeichenError]) -> Completion:
    return join([piece for piece in pieces if isinstance(piece, Delta)])


def test_answers_are_those_of_the_generator():
    with at_work() as (worker, heard):
        requests = [request(seed) for seed in range(20)]
        tickets = [worker.submit(one) for one in requests]
        told = heard.until_ended(tickets)
        assert [joined(told[ticket]) for ticket in tickets] == worker.generator.generate(requests)
        assert worker.engine.blocks.free == worker.engine.blocks.count


@pytest.mark.parametrize("interval", [0.001, 1000.0])
def test_an_interval_changes_no_answer(interval):
    """With a long one, all that lies between the first piece and the last comes with the last."""
    with at_work(interval=interval) as (worker, heard):
        requests = [request(seed) for seed in range(8)] + [replace(request(9), stop_strings=("e",))]
        tickets = [worker.submit(one) for one in requests]
        told = heard.until_ended(tickets)
        assert [joined(told[ticket]) for ticket in tickets] == worker.generator.generate(requests)
        if interval > 1:
            assert all(len(told[ticket]) <= 2 for ticket in tickets[:-1])


def test_a_cancelled_answer_frees_its_blocks_and_the_others_go_on():
    with at_work() as (worker, heard):
        gone = worker.submit(request(1, tokens=50))
        stays = worker.submit(request(2))
        worker.cancel(gone)
        told = heard.until_ended([stays])
        assert joined(told[stays]) == worker.generator.generate([request(2)])[0]
    assert worker.engine.blocks.free == worker.engine.blocks.count
    worker.engine.check_integrity()


def test_a_fault_of_the_engine_reaches_everybody_and_the_next_request_is_served(monkeypatch):
    with at_work() as (worker, heard):
        step = worker.engine.step
        calls = iter(range(10**6))

        def fails_once() -> object:
            if next(calls) == 2:
                raise RuntimeError("out of memory")
            return step()

        monkeypatch.setattr(worker.engine, "step", fails_once)
        first = worker.submit(request(1, tokens=40))
        (fault,) = [piece for piece in heard.until_ended([first])[first] if isinstance(piece, BeichenError)]
        assert "the engine failed" in str(fault) and "out of memory" in str(fault)
        second = worker.submit(request(2))
        assert joined(heard.until_ended([second])[second]) == worker.generator.generate([request(2)])[0]


def test_what_cannot_be_answered_or_must_not_wait_is_refused_at_once():
    with at_work(max_waiting=0) as (worker, _):
        with pytest.raises(SettingsError, match="the model knows"):
            worker.submit(Request(prompt_ids=[9999], max_new_tokens=1))
        with pytest.raises(OverloadError, match="requests are waiting"):
            worker.submit(request(1))
    with pytest.raises(OverloadError, match="shutting down"):
        worker.submit(request(1))


def parts(done: list[str], name: str, rests: Iterable[bool]) -> Generator[bool, None, str]:
    for rest in rests:
        done.append(name)
        yield rest
    return name


def test_other_work_is_done_in_turns_between_steps_and_disturbs_no_answer():
    done: list[str] = []
    go = threading.Event()

    def gate() -> Generator[bool, None, None]:
        go.wait()
        yield True

    with at_work() as (worker, heard):
        expected = [one.ids for one in worker.generator.generate([request(seed, tokens=40) for seed in range(4)])]
        first = worker.run(gate())
        works = [worker.run(parts(done, "a", [True] * 3)), worker.run(parts(done, "b", [False, False, True]))]
        dropped = worker.run(parts(done, "c", [True] * 1000))
        tickets = [worker.submit(request(seed, tokens=40)) for seed in range(4)]
        dropped.cancel()
        go.set()
        told = heard.until_ended(tickets)
        assert [joined(told[ticket]).ids for ticket in tickets] == expected
        assert [one.result(60) for one in works] == ["a", "b"] and first.done()
    assert worker.idle and done == ["a", "b", "b", "b", "a", "a"]  # b held something for its next part


def test_a_fault_of_other_work_is_told_to_whoever_asked_for_it():
    def faulty() -> Generator[bool, None, None]:
        yield True
        raise SettingsError("no")

    with at_work(max_waiting=1) as (worker, _):
        with pytest.raises(SettingsError, match="no"):
            worker.run(faulty()).result(60)
        endless = worker.run(parts([], "", itertools.repeat(True)))
        try:
            with pytest.raises(OverloadError):
                worker.run(faulty())
        finally:
            endless.cancel()
    with pytest.raises(OverloadError):
        worker.run(faulty())


@given(answers=st.integers(1, 200), least=st.floats(0.001, 2), step=st.floats(0.0005, 0.05))
def test_pieces_are_few_a_second_and_come_in_crowds_one_after_another(answers, least, step):
    """Answers that begin together, and steps of the engine for some pauses: whoever is due is told."""
    pauses, now, due, told = Pauses(least), 0.0, [0.0] * answers, list[tuple[float, int]]()
    longest = max(least, LONGEST_PAUSE)
    while now < 6 * longest:
        for number in range(answers):
            if due[number] <= now:
                told.append((now, number))
                due[number] = pauses.next(now, answers=answers)
                assert now + least / 2 <= due[number] <= now + 2.5 * longest
        now += step
    pause = max(least, min(answers / PIECES, LONGEST_PAUSE))
    later = [when for when, _ in told if when > 2 * pause]
    assert len(later) <= (now - 2 * pause) * answers / pause + answers
    slot = pause / math.ceil(answers / CROWD)
    assert max((later.count(when) for when in set(later)), default=0) <= CROWD * (step / slot + 2)
    assert len(set(later)) <= (now - 2 * pause) / slot + 2
    assert {number for when, number in told if when > 2 * pause} == set(range(answers))


def test_without_an_interval_nobody_waits():
    assert Pauses(0).next(5.0, answers=9) == 5.0
