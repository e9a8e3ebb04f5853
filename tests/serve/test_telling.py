"""What a server tells of its requests: ids, lines of the log, figures; never a key, and a prompt only where that was asked for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from beichen.inference.language_model import LanguageModel
from beichen.serve.logs import MAX_HELD, RequestLog, as_line, fields_of
from beichen.serve.records import RequestRecord
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server
from tests.serve.test_app import assert_all_is_free, wait_until

ASKED: dict[str, Any] = {"model": "small", "prompt": "天气很好" * 20, "max_tokens": 12, "ignore_eos": True}


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_decoder(trained_length=1024), small_tokenizer(), family="telechat2")


@pytest.fixture
def live(model: LanguageModel) -> Iterator[Live]:
    with live_server(model, keys=("secret",)) as server:
        yield server


class Lines:
    """A log as it was written, read as JSON."""

    def __init__(self, *, prompts: bool = False) -> None:
        self.texts: list[str] = []
        self.log = RequestLog(self.texts.append, form="json", prompts=prompts)

    def read(self) -> list[dict[str, Any]]:
        self.log.close()
        return [json.loads(text) for text in self.texts]


HEADERS = {"Authorization": "Bearer secret"}


@pytest.mark.parametrize("given", ["mine-1", "a.b:c_D", "x" * 128])
def test_a_sane_id_of_the_client_is_kept(live, given):
    assert httpx2.get(f"{live.url}/v1/models", headers={**HEADERS, "X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", 'quote"d', "ünï".encode()])
def test_another_id_is_made_anew_and_every_response_has_one(live, given):
    headers = [(b"Authorization", b"Bearer secret"), (b"X-Request-Id", given if isinstance(given, bytes) else given.encode())]
    made = [httpx2.get(f"{live.url}{path}", headers=headers).headers["X-Request-Id"] for path in ("/v1/models", "/health", "/nothing")]
    made.append(httpx2.get(f"{live.url}/v1/models").headers["X-Request-Id"])  # 401
    assert all(re.fullmatch("req-[0-9a-f]{24}", one) for one in made) and len(set(made)) == 4


def test_a_fault_of_the_server_has_an_id_and_is_told_without_its_words(model, monkeypatch):
    lines = Lines()
    with live_server(model, log=lines.log) as live:
        monkeypatch.setattr("beichen.serve.routes.openai.chat_turn", lambda *_, **__: 1 / 0)
        body = {"model": "small", "messages": [{"role": "user", "content": "天"}]}
        told = httpx2.post(f"{live.url}/v1/chat/completions", json=body)
    assert told.status_code == 500 and told.json()["error"]["code"] == "internal_error" and "division" not in told.text
    (line,) = lines.read()
    assert line["request_id"] == told.headers["X-Request-Id"] and line["outcome"] == "failed" and line["fault"] == "ZeroDivisionError"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompts", [False, True])
def test_a_line_says_who_what_and_how_much(model, stream, prompts):
    lines = Lines(prompts=prompts)
    with live_server(model, keys=("secret",), log=lines.log) as live:
        answer = httpx2.post(f"{live.url}/v1/completions", json={**ASKED, "n": 2, "stream": stream}, headers=HEADERS)
        refused = httpx2.post(f"{live.url}/v1/completions", json={**ASKED, "max_tokens": 0}, headers=HEADERS)
        httpx2.get(f"{live.url}/v1/models?secret=1", headers={"Authorization": "Bearer guessed"})
    first, second, third = lines.read()
    size = len(model.tokenizer.encode(ASKED["prompt"]))
    assert first["status"] == 200 and first["outcome"] == "ok" and first["finish_reason"] == "length" and first["method"] == "POST"
    assert first["path"] == "/v1/completions" and first["model"] == "small" and first["request_id"] == answer.headers["X-Request-Id"]
    assert first["key"] == hashlib.sha256(b"secret").hexdigest()[:12]
    assert first["tokens_in"] == size and first["tokens_out"] == 24 and 0 < first["first_token_seconds"] <= first["seconds"]
    assert second["status"] == refused.status_code == 400 and second["outcome"] == "refused" and "tokens_in" not in second
    assert third["status"] == 401 and third["fault"] == "invalid_api_key" and "key" not in third
    text = "".join(lines.texts)
    assert "secret" not in text and "guessed" not in text
    assert first.get("prompts") == ([ASKED["prompt"]] * 2 if prompts else None) and ("天气" in text) == prompts


@pytest.mark.parametrize("root", ["", "/ai"])
def test_a_line_names_the_server_s_own_path(model, root):
    lines = Lines()
    with live_server(model, log=lines.log, root_path=root) as live:
        for path in ("/v1/models", "/", "/nothing"):
            httpx2.get(f"{live.url}{root}{path}")
    assert [line["path"] for line in lines.read()] == ["/v1/models", "/", "/nothing"]


def test_vectors_of_texts_are_told_and_counted(model):
    lines = Lines(prompts=True)
    with live_server(model, log=lines.log) as live:
        answer = httpx2.post(f"{live.url}/v1/embeddings", json={"model": "small", "input": ["今天", "a"]})
        size = answer.json()["usage"]["prompt_tokens"]
        wait_until(lambda: figures(live).get(("beichen_requests_total", "small", "ok")) == 1)
        assert figures(live)["beichen_prompt_tokens_total", "small"] == size > 2
    line = lines.read()[0]
    assert (line["model"], line["tokens_in"], line["prompts"]) == ("small", size, ["今天", "a"]) and "tokens_out" not in line


def test_a_client_that_left_is_told_as_cancelled(model):
    lines = Lines()
    with live_server(model, log=lines.log) as live:
        with httpx2.stream("POST", f"{live.url}/v1/completions", json={**ASKED, "max_tokens": 800, "stream": True}) as answer:
            next(answer.iter_lines())
        assert_all_is_free(live)
    (line,) = lines.read()
    assert line["outcome"] == line["finish_reason"] == "cancelled" and 0 < line["tokens_out"] < 800


def test_lines_of_text_hold_on_one_line_whatever_a_path_says():
    record = RequestRecord(id="req-1", method="GET", path='/a\n2026 "faked"', status=404, key="abc", ended=True)
    line = as_line(fields_of(record), "text")
    assert "\n" not in line and line.split()[1:3] == ["req-1", "GET"] and 'key="abc"' in line and " 404 refused " in line


def test_a_log_that_nobody_reads_holds_up_nothing_and_counts_what_it_left_out():
    reads, texts = threading.Event(), list[str]()

    def write(text: str) -> None:
        reads.wait(60)
        texts.append(text)

    log = RequestLog(write, form="json")
    for number in range(MAX_HELD + 500):
        log.write(json.dumps({"number": number}))
    reads.set()
    log.close(timeout=60)
    said = [json.loads(text) for text in texts]
    left_out = [int(one["message"].split()[0]) for one in said if "message" in one]
    assert sum(left_out) + sum("number" in one for one in said) == MAX_HELD + 500 and sum(left_out) >= 498


def figures(live: Live) -> dict[tuple[str, ...], float]:
    """(name, values of labels) -> value"""
    text = httpx2.get(f"{live.url}/metrics", headers=HEADERS).text
    return {(one.name, *one.labels.values()): one.value for family in text_string_to_metric_families(text) for one in family.samples}


def test_figures_are_what_happened(live, model):
    assert httpx2.get(f"{live.url}/metrics").status_code == 401
    blocks = live.service.worker.engine.blocks
    before = figures(live)
    assert before["beichen_cache_blocks",] == blocks.count and before["beichen_cache_blocks_used",] == before["beichen_queue_running",] == 0
    for count, stream in ((1, False), (2, True)):
        asked = {**ASKED, "n": count, "stream": stream}
        assert httpx2.post(f"{live.url}/v1/completions", json=asked, headers=HEADERS).status_code == 200
    assert httpx2.post(f"{live.url}/v1/completions", json={**ASKED, "model": "any\nname"}, headers=HEADERS).status_code == 404
    wait_until(lambda: figures(live)["beichen_requests_total", "small", "ok"] == 2)
    now, size = figures(live), len(model.tokenizer.encode(ASKED["prompt"]))
    assert now["beichen_prompt_tokens_total", "small"] == 3 * size and now["beichen_output_tokens_total", "small"] == 36
    assert now["beichen_prefix_tokens_shared_total", "small"] >= 2 * (size // blocks.size - 1) * blocks.size
    assert now["beichen_time_to_first_token_seconds_count", "small"] == now["beichen_request_seconds_count", "small"] == 2
    assert now["beichen_time_per_output_token_seconds_count", "small"] == 3
    assert now["beichen_requests_total", "", "refused"] == 2  # without a key, and with a name that a client made up, which is no label
    assert now["beichen_preemptions_total",] == 0


def test_two_servers_count_apart(model):
    with live_server(model, name="one") as one, live_server(model, name="two") as two:
        assert httpx2.post(f"{one.url}/v1/completions", json={**ASKED, "model": "one"}).status_code == 200
        wait_until(lambda: 'model="one"' in httpx2.get(f"{one.url}/metrics").text)
        assert "one" not in httpx2.get(f"{two.url}/metrics").text


def test_no_other_site_is_let_in(live):
    told = httpx2.get(f"{live.url}/v1/models", headers={**HEADERS, "Origin": "http://elsewhere"})
    asked = httpx2.options(f"{live.url}/v1/completions", headers={"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST"})
    assert not [name for one in (told, asked) for name in one.headers if name.lower().startswith("access-control")]
    assert asked.status_code == 401
