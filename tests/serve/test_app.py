"""The server as its clients see it: OpenAI's own Python client, and clients that misbehave."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from beichen.inference.answering import Answer
from beichen.inference.language_model import LanguageModel
from beichen.serve.limits import Limits
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server

MESSAGES = [{"role": "system", "content": "简短"}, {"role": "user", "content": "今天天气 <_end> 🙂"}]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {
        "type": "object", "properties": {"city": {"enum": ["北京", "上海"]}}, "required": ["city"], "additionalProperties": False}}}
    for name in ("weather", "time")
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_decoder(trained_length=1024), small_tokenizer(), family="telechat2")


@pytest.fixture(scope="module")
def live(model: LanguageModel) -> Iterator[Live]:
    with live_server(model) as server:
        yield server


@pytest.fixture
def client(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def test_a_chat_is_the_model_s_own(client, model):
    expected = model.chat(MESSAGES, max_new_tokens=30)
    answer = client.chat.completions.create(model="small", messages=MESSAGES, max_completion_tokens=30, temperature=0)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    prompt = len(model.chat_request(MESSAGES).prompt_ids)
    assert answer.usage is not None and answer.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}) == {
        "prompt_tokens": prompt, "completion_tokens": len(expected.ids), "total_tokens": prompt + len(expected.ids),
    }  # fmt: skip


ANSWERED = [*MESSAGES, {"role": "assistant", "content": "今天是 a"}]


def test_an_answer_at_the_end_is_followed_by_another_turn(client, model):
    """As with OpenAI and vLLM."""
    answer = client.chat.completions.create(model="small", messages=ANSWERED, max_completion_tokens=9, temperature=0)
    assert answer.choices[0].message.content == model.chat(ANSWERED, max_new_tokens=9).text


@pytest.mark.parametrize("extra", [{}, {"add_generation_prompt": False}])
def test_an_answer_at_the_end_goes_on_where_that_is_asked_for(client, model, extra):
    """By the name that vLLM has for it: what comes is the continuation alone."""
    ids = [*model.chat_request(MESSAGES).prompt_ids, *model.tokenizer.encode("今天是 a")]
    expected = model.generate(ids, max_new_tokens=9)
    answer = client.chat.completions.create(
        model="small", messages=ANSWERED, max_completion_tokens=9, temperature=0, extra_body={"continue_final_message": True, **extra}
    )
    assert answer.choices[0].message.content == expected.text and answer.usage.prompt_tokens == len(ids)


@pytest.mark.parametrize("seed", range(4))
def test_streams_of_several_answers_join_to_the_whole(client, seed):
    asked = {"model": "small", "messages": MESSAGES, "max_tokens": 40, "temperature": 1.5, "seed": seed, "n": 3, "stop": ["e"]}
    whole = client.chat.completions.create(**asked)
    texts, reasons, usage = ["", "", ""], ["", "", ""], None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
        usage = chunk.usage or usage
    assert texts == [choice.message.content for choice in whole.choices] and len(set(texts)) == 3
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage and not any("e" in text for text in texts)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "time"}}])
def test_a_call_that_is_asked_for_comes_and_keeps_its_schema(client, choice, stream):
    asked = {
        "model": "small",
        "messages": MESSAGES,
        "tools": TOOLS,
        "tool_choice": choice,
        "max_tokens": 300,
        "temperature": 1.0,
        "seed": 5,
    }
    if stream:
        name, arguments, reason = "", "", None
        for chunk in client.chat.completions.create(**asked, stream=True):
            for call in chunk.choices[0].delta.tool_calls or ():
                name += call.function.name or ""
                arguments += call.function.arguments or ""
            reason = chunk.choices[0].finish_reason or reason
    else:
        answer = client.chat.completions.create(**asked).choices[0]
        function, reason = answer.message.tool_calls[0].function, answer.finish_reason
        name, arguments = function.name, function.arguments
        assert answer.message.content is None
    assert reason == "tool_calls" and name in ({"weather", "time"} if choice == "required" else {"time"})
    assert json.loads(arguments)["city"] in ("北京", "上海")


def test_an_answer_keeps_the_schema_that_is_asked_for(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"],
              "additionalProperties": False}  # fmt: skip
    for seed in range(3):
        answer = client.chat.completions.create(
            model="small", messages=MESSAGES, temperature=1.0, seed=seed, max_tokens=200,
            response_format={"type": "json_schema", "json_schema": {"name": "count", "schema": schema}},
        )  # fmt: skip
        assert 0 <= json.loads(answer.choices[0].message.content)["n"] <= 99


def test_logprobs_name_the_tokens_of_the_answer(client):
    answer = client.chat.completions.create(
        model="small", messages=MESSAGES, max_tokens=12, temperature=0, logprobs=True, top_logprobs=3
    ).choices[0]
    told = answer.logprobs.content
    assert b"".join(bytes(one.bytes) for one in told).decode("utf-8", "replace").startswith(answer.message.content[:3])
    assert all(one.top_logprobs[0].logprob == pytest.approx(one.logprob, abs=1e-4) for one in told)  # greedy: the likeliest
    assert all(len(one.top_logprobs) == 3 for one in told)


def test_completions_echo_rank_and_stream(client, model):
    prompts = ["今天 <_end>", [5, 6, 7]]
    asked: dict[str, Any] = {"model": "small", "prompt": prompts[0], "max_tokens": 10, "temperature": 0}
    expected = model.generate(prompts[0], max_new_tokens=10).text
    assert client.completions.create(**asked, echo=True).choices[0].text == prompts[0] + expected
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)) == expected
    assert (
        client.completions.create(**{**asked, "prompt": prompts[1]}).choices[0].text == model.generate(prompts[1], max_new_tokens=10).text
    )
    ranked = client.completions.create(**{**asked, "temperature": 1.5, "seed": 1, "n": 2, "best_of": 5, "logprobs": 1})
    means = [sum(choice.logprobs.token_logprobs) / len(choice.logprobs.tokens) for choice in ranked.choices]
    assert means == sorted(means, reverse=True) and len(means) == 2
    untold = client.completions.create(**{**asked, "temperature": 1.5, "seed": 1, "n": 2, "best_of": 5})
    assert [choice.text for choice in untold.choices] == [choice.text for choice in ranked.choices] and untold.choices[0].logprobs is None


@pytest.mark.parametrize("max_tokens", [0, 1, 7])
@pytest.mark.parametrize("prompt", ["今天 <_end> 🙂", [5, 6, 7, 300], [9]])
def test_what_is_echoed_tells_its_logprobs(client, model, prompt, max_tokens):
    """As harnesses score texts: one entry an id, the model's own; a stream of it joins to the same."""
    asked: dict[str, Any] = {"model": "small", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "echo": True, "logprobs": 2}
    expected = model.generate(prompt, max_new_tokens=max_tokens or 1, stop_ids=None, logprobs=2, prompt_logprobs=2)
    answer = client.completions.create(**asked)
    (choice,), told = answer.choices, [*expected.prompt_logprobs, *expected.logprobs[: max_tokens or 0]]
    logprobs = choice.logprobs
    ids = model.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    assert answer.usage.completion_tokens == len(told) - len(ids) and answer.usage.prompt_tokens == len(ids)
    assert choice.text == model.tokenizer.decode(ids) + (expected.text if max_tokens else "")
    assert len(logprobs.tokens) == len(logprobs.top_logprobs) == len(logprobs.text_offset) == len(told)
    assert logprobs.token_logprobs[0] is logprobs.top_logprobs[0] is None and logprobs.text_offset[0] == 0
    assert logprobs.token_logprobs[1:] == [pytest.approx(one.logprob, abs=1e-4) for one in told[1:]]
    chunks = [chunk.choices[0] for chunk in client.completions.create(**asked, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == choice.text and chunks[-1].finish_reason == choice.finish_reason
    assert [value for chunk in chunks for value in chunk.logprobs.token_logprobs] == [
        None if value is None else pytest.approx(value, abs=1e-4) for value in logprobs.token_logprobs
    ]
    assert [place for chunk in chunks for place in chunk.logprobs.text_offset] == logprobs.text_offset
    assert [name for chunk in chunks for name in chunk.logprobs.tokens] == logprobs.tokens


def test_nothing_new_without_an_echo_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="nothing would be answered") as fault:
        client.completions.create(model="small", prompt="a", max_tokens=0)
    assert fault.value.param == "max_tokens"


@pytest.mark.parametrize("stream", [False, True])
def test_who_is_not_answered_in_the_time_of_a_shutdown_is_told(model, stream, monkeypatch):
    """By a last event or a status, and the server ends without waiting any longer."""
    with live_server(model, limits=Limits(shutdown_seconds=0.3)) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        asked = {"model": "small", "prompt": "a", "max_tokens": 1000, "temperature": 0, "extra_body": {"ignore_eos": True}}
        engine = server.service.worker.engine
        step = engine.step

        def slow_step() -> object:
            time.sleep(0.05)
            return step()

        monkeypatch.setattr(engine, "step", slow_step)
        threading.Timer(0.5, server.end).start()
        with pytest.raises(openai.APIError, match="shutting down"):
            answer = client.completions.create(**asked, stream=stream)
            if stream:
                list(answer)
    assert server.service.answering == 0


def test_tokens_there_and_back(live, model):
    text = "天气 <_end> 🙂"
    found = httpx2.post(f"{live.url}/tokenize", json={"prompt": text}).json()
    assert found["tokens"] == model.tokenizer.encode(text) and found["count"] == len(found["tokens"])
    assert httpx2.post(f"{live.url}/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": text}
    chat = httpx2.post(f"{live.url}/tokenize", json={"messages": MESSAGES}).json()
    assert chat["tokens"] == list(model.chat_request(MESSAGES).prompt_ids)


def test_models_and_health(client, live):
    assert [one.id for one in client.models.list()] == ["small"] and client.models.retrieve("small").id == "small"
    assert httpx2.get(f"{live.url}/health").status_code == httpx2.get(f"{live.url}/ready").status_code == 200


FAULTS: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "large"}, 404, "model", "there is no model 'large'"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, "messages[0].content[0]", "an image"),
    ({"messages": []}, 400, "messages", "no messages"),
    ({"continue_final_message": True}, 400, "continue_final_message", "of the user"),
    ({"messages": ANSWERED, "continue_final_message": True, "tools": TOOLS, "tool_choice": "required"}, 400, "tool_choice", "goes on"),
    ({"continue_final_message": True, "add_generation_prompt": True}, 400, "add_generation_prompt", "either"),
    ({"temperature": 3}, 400, "temperature", "less than or equal to 2"),
    ({"stop": "a" * 1001}, 400, "stop", "at most 1000 characters"),
    ({"stop_token_ids": [1] * 257}, 400, "stop_token_ids", "at most 256 items"),
    ({"max_tokenz": 3}, 400, "max_tokenz", "max_tokens"),
    ({"tool_choice": "required"}, 400, "tool_choice", "no tools are given"),
    ({"messages": [{"role": "user", "content": "天" * 2000}]}, 400, "messages", "a larger --max-model-len"),
    ({"logit_bias": {"9999": 1}}, 400, "logit_bias", "9999"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "status", "param", "said"), FAULTS, ids=[next(iter(fault[0])) + str(fault[1]) for fault in FAULTS])
@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_names_its_field(live, change, status, param, said, stream):
    body = {"model": "small", "messages": MESSAGES, "stream": stream, **change}
    answer = httpx2.post(f"{live.url}/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert answer.status_code == status and said in error["message"] and error.get("param") == param


def test_bodies_that_are_no_json_or_too_large_are_refused(model):
    with live_server(model, limits=Limits(max_body_bytes=1000)) as live:
        url = f"{live.url}/v1/chat/completions"
        assert httpx2.post(url, content=b"{").json()["error"]["code"] == "invalid_json"
        assert httpx2.post(url, content=b" " * 1001).json()["error"]["code"] == "body_too_large"


def test_a_key_is_asked_for_and_no_other_will_do(model):
    with live_server(model, keys=("correct", "密钥")) as live:
        for key in ("wrong", "correc", "x"):
            assert httpx2.get(f"{live.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 401
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{live.url}/v1", api_key="wrong", max_retries=0).models.list()
        client = openai.OpenAI(base_url=f"{live.url}/v1", api_key="correct", max_retries=0)
        assert client.chat.completions.create(model="small", messages=MESSAGES, max_tokens=3).choices
        assert httpx2.get(f"{live.url}/health").status_code == 200


def test_too_many_waiting_are_told_to_come_back(model):
    with live_server(model, limits=Limits(max_waiting=1)) as live:
        long = {"model": "small", "messages": MESSAGES, "max_tokens": 700, "n": 100, "temperature": 1.0}
        refused = httpx2.post(f"{live.url}/v1/chat/completions", json=long)
        assert refused.status_code == 429 and refused.headers["Retry-After"] == "1" and refused.json()["error"]["code"] == "overloaded"
        assert_all_is_free(live)


def test_clients_that_vanish_leave_nothing_behind(live, client):
    """They leave before, during and after the first pieces, or read slowly; then all blocks are free and a new request is answered."""
    rng = random.Random(0)
    failures: list[BaseException] = []

    def misbehave(seed: int) -> None:
        own = random.Random(seed)
        try:
            with httpx2.Client(timeout=60) as session:
                for _ in range(8):
                    body = {"model": "small", "messages": [{"role": "user", "content": "天气" * own.randrange(1, 60)}], "temperature": 1.0,
                            "max_tokens": own.randrange(1, 200), "stream": own.random() < 0.7}  # fmt: skip
                    try:
                        with session.stream(
                            "POST", f"{live.url}/v1/chat/completions", json=body, timeout=own.choice([0.02, 0.2, 30])
                        ) as answer:
                            assert answer.status_code == 200
                            for number, _ in enumerate(answer.iter_lines()):
                                if own.random() < 0.05:
                                    time.sleep(0.1)
                                if number > own.randrange(1, 120):
                                    break
                    except httpx2.TimeoutException:
                        continue
        except BaseException as fault:
            failures.append(fault)

    threads = [threading.Thread(target=misbehave, args=(rng.randrange(10**6),)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert client.chat.completions.create(model="small", messages=MESSAGES, max_tokens=3, temperature=0).choices
    assert_all_is_free(live)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_nobody_reads_is_not_computed_to_its_end(model, monkeypatch, stream):
    with live_server(model) as live:
        begun: list[Answer] = []
        begin = live.service.worker.generator.begin

        def noted(*given: Any, **named: Any) -> Answer:
            begun.append(begin(*given, **named))
            return begun[-1]

        monkeypatch.setattr(live.service.worker.generator, "begin", noted)
        body = json.dumps({"model": "small", "messages": MESSAGES, "stream": stream, "max_tokens": 900, "ignore_eos": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(live.url.rpartition(":")[2]))) as connection:
            connection.sendall(head.encode() + body)
            wait_until(lambda: bool(begun))
        assert_all_is_free(live)
        (one,) = begun
        assert one.sequence.finish_reason == "cancelled" and len(one.sequence.ids) < 900


def test_what_runs_is_finished_when_the_server_ends(model):
    with live_server(model) as live:
        client = openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)
        asked: dict[str, Any] = {"model": "small", "messages": MESSAGES, "max_tokens": 150, "temperature": 0}
        stream = iter(client.chat.completions.create(**{**asked, "stream": True}))
        text = next(stream).choices[0].delta.content or ""
        ended: list[str] = []
        reader = threading.Thread(target=lambda: ended.append(text + "".join(chunk.choices[0].delta.content or "" for chunk in stream)))
        reader.start()
    reader.join()
    assert ended == [model.chat(MESSAGES, max_new_tokens=150).text]


def assert_all_is_free(live: Live) -> None:
    """Within a moment: what clients left is found at the next step."""
    wait_until(lambda: live.service.worker.idle)
    engine = live.service.worker.engine
    engine.check_integrity()
    assert engine.blocks.free == engine.blocks.count


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < until, "nothing happened for a minute"
        time.sleep(0.02)
