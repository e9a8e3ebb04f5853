"""The originals' services as their clients know them: bytes of the stream, JSON, ranges and codes, times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx2
import pytest

from beichen.errors import BeichenError, RequestError
from beichen.inference.language_model import LanguageModel
from beichen.serve.limits import Limits
from beichen.serve.original_requests import NDL_NEW_TOKENS, ndl_request, telechat_request
from beichen.serve.schemas.originals import NdlRequest, read_telechat
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server

TURNS = [{"role": "user", "content": "你好 <_end>"}, {"role": "bot", "content": "好"}, {"role": "user", "content": "天气🙂"}]
MESSAGES = [{"role": "user", "content": "你好 <_end>"}, {"role": "assistant", "content": "好"}, {"role": "user", "content": "天气🙂"}]
GREEDY = {"dialog": TURNS, "do_sample": False, "max_length": 300}
PATHS = ["/telechat/gptDialog/v2", "/telechat/gptDialog/v4"]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_decoder(trained_length=512), small_tokenizer(), family="telechat2")


@pytest.fixture(scope="module")
def live(model: LanguageModel) -> Iterator[Live]:
    with live_server(model, limits=Limits(stream_interval=0), original_paths=True) as server:
        yield server


@pytest.fixture(scope="module")
def expected(model: LanguageModel) -> str:
    prompt = len(model.chat_request(MESSAGES).prompt_ids)
    return model.chat(MESSAGES, max_new_tokens=300 - prompt, temperature=0, repetition_penalty=1.03).text


def test_v2_streams_the_raw_text_and_nothing_else(live, expected):
    with httpx2.stream("POST", live.url + PATHS[0], json=GREEDY) as answer:
        pieces = list(answer.iter_raw())
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b"".join(pieces).decode() == expected


def test_v4_answers_in_json_byte_for_byte(live, expected):
    answer = httpx2.post(live.url + PATHS[1], json=GREEDY)
    assert answer.headers["content-type"] == "application/json"
    assert answer.content.decode() == json.dumps({"role": "bot", "content": expected}, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"{}", "10301", "服务必填参数缺失"), (b"no json", "10301", "服务必填参数缺失"), (b"[" * 100_000, "10301", "服务必填参数缺失"),
        (json.dumps({"dialog": TURNS, "top_k": 100}).encode(), "10305", "请求参数范围错误"),
        (json.dumps({"dialog": TURNS, "repetition_penalty": 2}).encode(), "10305", "请求参数范围错误"),
        (json.dumps({"dialog": TURNS[1:]}).encode(), "10904", "服务请求参数dialog错误"),
        (json.dumps({"dialog": [{"role": "user", "content": "\ud800"}]}).encode(), "10904", "服务请求参数dialog错误"),
        (json.dumps({"dialog": []}).encode(), "10903", "服务执行失败"),
        (json.dumps({"dialog": [{"role": "user", "content": "天" * 600}]}).encode(), "10903", "服务执行失败"),
    ],
)  # fmt: skip
def test_failures_have_status_200_and_their_code(live, path, body, code, message):
    answer = httpx2.post(live.url + path, content=body)
    assert answer.status_code == 200
    assert answer.text == f'{{"seqid":"","code":"{code}","message":"{message}","flag":"0","data":"执行失败"}}'


def test_a_failure_within_a_stream_reaches_its_client(model, expected):
    with live_server(model, limits=Limits(stream_interval=0), original_paths=True) as live:
        answer = live.service.answer

        async def broken(requests):
            async for piece in answer(requests):
                yield piece
                if piece[1].text:
                    raise BeichenError("the engine failed")

        live.service.answer = broken  # type: ignore[method-assign]  # the engine cannot be made to fail from outside, and only here is it to
        text = httpx2.post(live.url + PATHS[0], json=GREEDY).text
        said, _, failure = text.rpartition('{"seqid"')
        assert said and expected.startswith(said) and json.loads('{"seqid"' + failure)["code"] == "10903"
        assert httpx2.post(live.url + PATHS[1], json=GREEDY).json()["code"] == "10903"


def test_what_the_originals_did_not_know_is_told_as_everywhere(model):
    with live_server(model, keys=("key",), limits=Limits(max_body_bytes=500, max_waiting=0), original_paths=True) as live:
        key = {"Authorization": "Bearer key"}
        for path, body in ((PATHS[0], GREEDY), (PATHS[1], GREEDY), ("/chat", {"prompt": "a"})):
            assert httpx2.post(live.url + path, json=body).status_code == 401
            assert httpx2.post(live.url + path, json=body, headers=key).status_code == 429
            assert httpx2.post(live.url + path, content=b" " * 501, headers=key).status_code == 413


def test_fields_become_settings_and_a_null_is_the_model_s_own(model):
    def settings(**fields):
        asked = telechat_request(model, read_telechat({"dialog": TURNS, **fields}), max_model_len=512, owner="")
        one = asked.sampling
        return (one.temperature, one.top_k, one.top_p, one.repetition_penalty), len(asked.prompt_ids) + asked.max_new_tokens

    assert settings() == ((0.1, 20, 0.2, 1.03), 512)  # 4096, but no more than the model reads
    assert settings(max_length=300, temperature=0.5, top_k=True, repetition_penalty=1.5)[1] == 300
    assert settings(do_sample=False)[0] == (0.0, None, None, 1.03)
    assert settings(do_sample=None, max_length=None) == ((0.0, None, None, 1.03), 512)  # this model says nothing of sampling
    assert settings(temperature=None, top_k=None, top_p=None, repetition_penalty=None)[0] == (1.0, None, None, 1.0)


def test_a_long_dialogue_loses_whole_turns_from_its_beginning(model):
    long = [turn for number in range(40) for turn in ({"role": "user", "content": f"问{number}"}, {"role": "bot", "content": "答"})]
    asked = telechat_request(model, read_telechat({"dialog": [*long, TURNS[-1]], "max_length": 250}), max_model_len=512, owner="")
    whole = model.tokenizer.render([{"role": turn["role"].replace("bot", "assistant"), "content": turn["content"]} for turn in
                                    [*long, TURNS[-1]]], add_generation_prompt=True).ids  # fmt: skip
    ids = list(asked.prompt_ids)
    assert len(ids) < 250 < len(whole) and ids[-40:] == whole[-40:]
    with pytest.raises(RequestError) as caught:
        telechat_request(model, read_telechat({"dialog": TURNS, "max_length": 1}), max_model_len=512, owner="")
    assert caught.value.code == "10903"


def test_ndl_answers_one_question_with_the_time(live, model):
    asked = ndl_request(model, NdlRequest(prompt="你好"), max_model_len=512, owner="")
    one = asked.sampling
    assert (one.temperature, one.top_k, one.top_p, one.repetition_penalty) == (0.9, 30, 0.5, 1.3)
    assert asked.max_new_tokens == min(NDL_NEW_TOKENS, 512 - len(asked.prompt_ids))
    answer = httpx2.post(f"{live.url}/chat", json={"prompt": "你好"}).json()
    assert list(answer) == ["response", "status", "time"] and answer["status"] == 200 and isinstance(answer["response"], str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", answer["time"])
    assert httpx2.post(f"{live.url}/chat", json={"prompt": ["q", "p"]}).json()["error"]["param"] == "prompt"


def test_they_are_there_only_where_asked_for(model):
    with live_server(model) as live:
        assert all(httpx2.post(live.url + path, json=GREEDY).status_code == 404 for path in (*PATHS, "/chat"))
