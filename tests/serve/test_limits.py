"""What a server takes and how long it waits: every bound is said by its status, and what was begun is let go."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import torch

from beichen.errors import BeichenError, OverloadError, TimeLimitError
from beichen.inference.api import Delta, Request
from beichen.inference.language_model import LanguageModel
from beichen.inference.worker import Ticket
from beichen.nn.paged_cache import BLOCK_SIZE, block_bytes
from beichen.serve.inbox import Expected, Inbox
from beichen.serve.limits import Limits
from beichen.serve.logs import RequestLog
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server
from tests.serve.test_app import assert_all_is_free, wait_until

LONG: dict[str, Any] = {"model": "small", "prompt": "天气", "max_tokens": 900, "ignore_eos": True}


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_decoder(trained_length=1024), small_tokenizer(), family="telechat2")


@pytest.fixture
def still(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An engine that takes no step until the event is set."""
    going = threading.Event()
    step = model.generator.engine.step

    def waits() -> object:
        going.wait(60)
        return step()

    monkeypatch.setattr(model.generator.engine, "step", waits)
    yield going
    going.set()


def ask(live: Live, **changes: Any) -> httpx2.Response:
    return httpx2.post(f"{live.url}/v1/completions", json={**LONG, **changes}, timeout=60)


def test_one_key_may_have_so_many_answers_and_others_go_on(model, still):
    with live_server(model, keys=("one", "two"), limits=Limits(max_streams_per_key=2)) as live:
        url, mine, other = f"{live.url}/v1/completions", {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
        ended: list[int] = []
        held = threading.Thread(target=lambda: ended.append(httpx2.post(url, json={**LONG, "n": 2}, headers=mine, timeout=60).status_code))
        held.start()
        wait_until(lambda: live.service.answering == 2)
        refused = httpx2.post(url, json=LONG, headers=mine)
        assert (
            refused.status_code == 429 and refused.headers["Retry-After"] and "2 answers of this key" in refused.json()["error"]["message"]
        )
        still.set()
        assert httpx2.post(url, json={**LONG, "max_tokens": 2}, headers=other, timeout=60).status_code == 200
        held.join()
        assert ended == [200] and httpx2.post(url, json={**LONG, "max_tokens": 2, "n": 2}, headers=mine, timeout=60).status_code == 200
        for never in ({"n": 3}, {"best_of": 3}, {"prompt": ["a"] * 3, "stream": True}):  # no time would come in which they may
            refused = httpx2.post(url, json={**LONG, **never}, headers=mine)
            error = refused.json()["error"]
            assert (refused.status_code, error["param"], error["code"]) == (
                400,
                "n",
                "invalid_value",
            ) and "Retry-After" not in refused.headers
            assert "3 answers" in error["message"] and "--max-streams-per-key" in error["message"]
        assert_all_is_free(live)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_engine_does_not_begin_is_refused_in_time(model, still, stream):
    texts: list[str] = []
    log = RequestLog(texts.append, form="json")
    with live_server(model, limits=Limits(queue_seconds=0.05), log=log) as live:
        refused = ask(live, stream=stream)
        error = refused.json()["error"]
        assert refused.status_code == 429 and refused.headers["Retry-After"] == "1" and error["code"] == "queue_timeout"
        assert "no room for 0.05 seconds" in error["message"]
        still.set()
        assert_all_is_free(live)
    log.close()
    line = next(line for text in texts if (line := json.loads(text)).get("status") == 429)
    assert line["outcome"] == "expired" and line["fault"] == "queue_timeout"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_ends(model, stream):
    with live_server(model, limits=Limits(request_seconds=0.3)) as live:
        late = ask(live, n=8, stream=stream)
        if stream and late.status_code == 200:
            events = [line.removeprefix("data: ") for line in late.text.split("\n\n") if line]
            error = json.loads(events[-2])["error"]
            assert events[-1] == "[DONE]" and "longer than 0.3 seconds" in error["message"]
            assert (error["type"], error["code"]) == ("server_error", "timeout")
        else:
            assert late.status_code == 504 and late.json()["error"]["code"] == "timeout"
        assert_all_is_free(live)


def test_a_cache_smaller_than_the_trained_length_bounds_prompt_and_answer():
    model = LanguageModel(small_decoder(trained_length=1024), small_tokenizer(), family="telechat2")
    model.generator.resize(kv_bytes=12 * block_bytes(model.config, torch.float32))
    most = 12 * BLOCK_SIZE
    with live_server(model) as live:
        assert httpx2.get(f"{live.url}/v1/models").json()["data"][0]["max_model_len"] == most
        asked = {"model": "small", "messages": [{"role": "user", "content": "a"}], "ignore_eos": True}
        answer = httpx2.post(f"{live.url}/v1/chat/completions", json=asked, timeout=60).json()
        assert answer["usage"]["total_tokens"] == most and answer["choices"][0]["finish_reason"] == "length"
        long = httpx2.post(f"{live.url}/v1/completions", json={"model": "small", "prompt": [5] * most}).json()["error"]
        assert (long["param"], long["code"]) == ("prompt", "context_length_exceeded")


def test_a_body_that_does_not_arrive_is_not_waited_for(model):
    with live_server(model, limits=Limits(body_seconds=0.2)) as live, connected(live) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
        told = read_all(client)
        assert told.startswith(b"HTTP/1.1 408") and b"did not arrive within 0.2 seconds" in told


@pytest.mark.parametrize("head", [b"", b"POST /v1/completions HTTP/1.1\r\nHost: he"])
def test_a_connection_that_asks_nothing_is_cut(model, head):
    with live_server(model, limits=Limits(stall_seconds=0.2)) as live, connected(live) as client:
        client.sendall(head)
        assert read_all(client) == b""


def test_a_head_without_end_is_cut(model):
    with live_server(model) as live, connected(live) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\n")
        with pytest.raises((ConnectionError, TimeoutError)):
            for number in range(100_000):
                client.sendall(b"X-%d: %s\r\n" % (number, b"a" * 1000))
        assert live.service.answering == 0


def test_a_body_larger_than_may_be_is_refused_before_it_is_sent(model):
    with live_server(model, limits=Limits(max_body_bytes=1000)) as live, connected(live) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Length: 99999999\r\n\r\n")
        told = read_all(client)  # to the end: the connection is closed, since the rest would have to be read
        assert told.startswith(b"HTTP/1.1 413") and b"larger than 1000 bytes" in told


def test_bodies_that_are_held_are_bounded_together(model):
    with live_server(model, limits=Limits(max_bodies_bytes=1000)) as live:
        url = f"{live.url}/v1/completions"
        assert httpx2.post(url, content=b" " * 1001).status_code == 429
        assert httpx2.post(url, content=b" " * 1000).status_code == httpx2.post(url, content=b" " * 1000).status_code == 400


def test_a_client_that_takes_nothing_is_dropped(model):
    """Its answer is larger than what the system holds for it."""
    with live_server(model, limits=Limits(stall_seconds=0.3)) as live, connected(live, window=4096) as client:
        body = json.dumps({**LONG, "n": 16, "logprobs": 20, "temperature": 1.0, "stream": True}).encode()
        client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: live.service.answering == 16)
        until = time.monotonic() + 300  # some hundred kilobytes are to be made first, by a machine that may be busy
        while live.service.answering:
            assert time.monotonic() < until, "it is never dropped"
            time.sleep(0.02)
        assert_all_is_free(live)
        assert b"[DONE]" not in read_all(client)


def test_what_waits_for_a_client_is_bounded():
    """The inbox alone: pieces come, nobody reads, and the engine's work ends."""

    async def fill() -> None:
        gone: list[Ticket] = []
        inbox = Inbox(Limits(max_backlog=3), gone.append)
        request = Request(prompt_ids=[1], max_new_tokens=9)
        tickets = [Ticket(request), Ticket(request)]
        inbox.expected = {ticket: Expected(place, request, ticket) for place, ticket in enumerate(tickets)}
        for number in range(5):
            inbox.put(tickets[number % 2], Delta(text=str(number)), float(number))
        assert gone == tickets
        assert [(await inbox.next())[1].text for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(TimeLimitError, match="does not read"):
            await inbox.next()

    asyncio.run(fill())


def test_a_fault_of_one_answer_ends_all_of_its_request():
    async def fail() -> None:
        gone: list[Ticket] = []
        inbox = Inbox(Limits(), gone.append)
        request = Request(prompt_ids=[1], max_new_tokens=9)
        inbox.expected = {ticket: Expected(0, request, ticket) for ticket in (Ticket(request), Ticket(request))}
        inbox.put(next(iter(inbox.expected)), BeichenError("no"), 0.0)
        inbox.fail(OverloadError("another"))
        with pytest.raises(BeichenError, match="no"):
            await inbox.next()
        assert len(gone) == 2

    asyncio.run(fail())


def test_while_it_ends_a_server_says_so_and_finishes_what_runs(model, still):
    with live_server(model) as live:
        ended: list[httpx2.Response] = []
        held = threading.Thread(target=lambda: ended.append(ask(live, max_tokens=20)))
        held.start()
        wait_until(lambda: live.service.answering == 1)
        live.end()
        wait_until(lambda: live.service.closing)
        refused = ask(live)
        assert refused.status_code == 503 and refused.headers["Retry-After"] and refused.json()["error"]["code"] == "shutting_down"
        assert httpx2.post(f"{live.url}/v1/embeddings", json={"model": "small", "input": "天"}).status_code == 503
        assert httpx2.get(f"{live.url}/ready").status_code == 503 and httpx2.get(f"{live.url}/health").status_code == 200
        still.set()
        held.join()
        assert ended[0].status_code == 200 and ended[0].json()["usage"]["completion_tokens"] == 20


def test_a_client_that_leaves_the_queue_leaves_its_place(model, still):
    """Nothing was sent yet, so nothing that is sent could find it gone."""
    with live_server(model) as live:
        with connected(live) as client:
            body = json.dumps({**LONG, "stream": True}).encode()
            client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: live.service.answering == 1)
        wait_until(lambda: live.service.answering == 0)
        still.set()
        assert_all_is_free(live)


@contextmanager
def connected(live: Live, window: int | None = None) -> Iterator[socket.socket]:
    """window: bytes that the system takes before they are read."""
    with socket.socket() as client:
        if window is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        client.settimeout(60)
        client.connect(("127.0.0.1", int(live.url.rpartition(":")[2])))
        yield client


def read_all(client: socket.socket) -> bytes:
    """Until the server closes or cuts the connection."""
    found = b""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            part = client.recv(1 << 16)
        except ConnectionResetError:
            return found
        if not part:
            return found
        found += part
    raise AssertionError("the connection stays open")
