"""Whatever goes wrong, a client is told in the one form that it knows, with the right status; and behind a proxy all is as without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from beichen.errors import BeichenError
from beichen.inference.language_model import LanguageModel
from beichen.serve.service import Limits
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import Live, live_server


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_decoder(trained_length=256), small_tokenizer(), family="telechat2")


@pytest.fixture(scope="module")
def live(model: LanguageModel) -> Iterator[Live]:
    with live_server(model, limits=Limits(max_body_bytes=1000)) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", b"", 404, "not_found"), ("GET", "/v1/chat/completions", b"", 405, "method_not_allowed"),
        ("GET", "/v1/models/large", b"", 404, "model_not_found"), ("POST", "/detokenize", b" " * 1001, 413, "body_too_large"),
        ("POST", "/detokenize", b"{", 400, "invalid_json"),
    ],
)  # fmt: skip
def test_every_fault_has_one_form(live, method, path, body, status, code):
    answer = httpx2.request(method, live.url + path, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code) and answer.json()["error"]["message"]
    assert status != 405 or answer.headers["Allow"] == "POST"


CHAT, TEXT = {"model": "small", "messages": [{"role": "user", "content": "?"}]}, {"model": "small", "prompt": "?"}
CALL = {"type": "function", "function": {"name": "f", "parameters": {"type": "strange"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "strange"}}}
LONG, VALUE, MISSING = "context_length_exceeded", "invalid_value", "missing_required_parameter"
BAD_BODIES: dict[str, list[tuple[dict[str, Any], str, str]]] = {
    "/v1/chat/completions": [
        ({"model": "small"}, "messages", "missing_required_parameter"), ({**CHAT, "modle": 1}, "modle", "unknown_parameter"),
        ({**CHAT, "temperature": "1"}, "temperature", "invalid_type"), ({**CHAT, "temperature": 3}, "temperature", VALUE),
        ({**CHAT, "n": 1.5}, "n", "invalid_type"), ({**CHAT, "messages": []}, "messages", VALUE),
        ({**CHAT, "top_logprobs": 1}, "top_logprobs", VALUE), ({**CHAT, "stream_options": {}}, "stream_options", VALUE),
        ({**CHAT, "max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", VALUE),
        ({**CHAT, "response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}}, "structured_outputs", VALUE),
        ({**CHAT, "structured_outputs": {}}, "structured_outputs", VALUE),
        ({**CHAT, "structured_outputs": {"regex": "("}}, "structured_outputs.regex", VALUE),
        ({**CHAT, "structured_outputs": {"grammar": "start: ("}}, "structured_outputs.grammar", VALUE),
        ({**CHAT, "response_format": SCHEMA}, "response_format.json_schema.schema", VALUE),
        ({**CHAT, "tools": [CALL], "tool_choice": "required"}, "tools", VALUE), ({**CHAT, "tool_choice": "required"}, "tool_choice", VALUE),
        ({**CHAT, "logit_bias": {"9999": 1}}, "logit_bias", VALUE), ({**CHAT, "stop_token_ids": [9999]}, "stop_token_ids", VALUE),
        ({**CHAT, "chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs.enable_thinking", VALUE),
        ({**CHAT, "messages": [{"role": "user", "content": "天" * 2000}]}, "messages", LONG),
        ({**CHAT, "messages": "hi"}, "messages", "invalid_type"), ({**CHAT, "messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({**CHAT, "messages": None}, "messages", MISSING), ({**CHAT, "messages": [{"role": "user"}]}, "messages[0].content", MISSING),
        ({**CHAT, "messages": [{"role": "user", "content": 3}]}, "messages[0].content", "invalid_type"),
        ({**CHAT, "messages": [{"content": "a"}]}, "messages[0].role", MISSING),
        ({**CHAT, "messages": [{"role": "me", "content": "a"}]}, "messages[0].role", VALUE),
        ({**CHAT, "tools": [{"type": "function"}]}, "tools[0].function", MISSING), ({**CHAT, "tools": [{}]}, "tools[0].type", MISSING),
        ({**CHAT, "tools": [{"type": "function", "function": []}]}, "tools[0].function", "invalid_type"),
    ],
    "/v1/completions": [
        ({**TEXT, "prompt": ""}, "prompt", VALUE), ({**TEXT, "prompt": [[1], [9999]]}, "prompt[1]", VALUE),
        ({**TEXT, "prompt": [1, "a"]}, "prompt[1]", "invalid_type"), ({**TEXT, "suffix": "a"}, "suffix", VALUE),
        ({**TEXT, "n": 2, "best_of": 1}, "best_of", VALUE), ({**TEXT, "best_of": 2, "stream": True}, "best_of", VALUE),
        ({**TEXT, "prompt": "天" * 2000}, "prompt", LONG),
    ],
    "/v1/embeddings": [
        ({"model": "small", "input": [[]]}, "input[0]", VALUE), ({"model": "small", "input": []}, "input", VALUE),
        ({"model": "small", "input": "a", "dimensions": 5}, "dimensions", VALUE),
        ({"model": "small", "input": ["a", "天" * 2000]}, "input[1]", LONG),
    ],
    "/tokenize": [
        ({}, "prompt", VALUE), ({"messages": [{"role": "user"}]}, "messages[0].content", MISSING),
        ({"prompt": "a", "model": "large"}, "model", "model_not_found"),
    ],
    "/detokenize": [({"tokens": [1, 9999]}, "tokens[1]", VALUE), ({"tokens": 1}, "tokens", "invalid_type")],
}  # fmt: skip


def test_every_bad_body_names_its_field_and_its_kind():
    """In all four keys of the form that OpenAI's clients read."""
    model = LanguageModel(small_decoder(trained_length=1024), small_tokenizer(), family="telechat2")
    with live_server(model) as live:
        for path, cases in BAD_BODIES.items():
            for body, param, code in cases:
                answer = httpx2.post(live.url + path, json=body)
                assert answer.status_code >= 400, (path, body)
                error = answer.json()["error"]
                assert error == {"message": error["message"], "type": "invalid_request_error", "param": param, "code": code}, (path, body)
                assert error["message"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/chat/completions", {**CHAT, "functions": []}, "functions: unknown field (write tools)"),
        ("/v1/chat/completions", {**CHAT, "function_call": "auto"}, "function_call: unknown field (write tool_choice)"),
        ("/v1/completions", {**TEXT, "guided_regex": "a"}, "guided_regex: unknown field (write structured_outputs.regex)"),
        ("/v1/completions", {**TEXT, "guided_json": {}}, "guided_json: unknown field (write response_format.json_schema)"),
        ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json"}},
         "response_format: type \"json\": expected one of 'text', 'json_object', 'json_schema'"),
        ("/v1/chat/completions", {**CHAT, "response_format": {}}, "response_format: 'type' is missing"),
        ("/chat/completions", CHAT, "did you mean '/v1/chat/completions'?"), ("/v1/responses", {}, "did you mean '/v1/chat/completions'?"),
        ("/v1/v1/embeddings", {}, "did you mean '/v1/embeddings'?"), ("/x", {}, "/openapi.json names the paths"),
    ],
)  # fmt: skip
def test_a_fault_says_what_to_write_instead(live, path, body, words):
    assert words in httpx2.post(live.url + path, json=body).json()["error"]["message"]


def test_a_server_that_takes_no_control_tokens_says_what_lets_it(model):
    with live_server(model, allow_special=False) as live:
        for path, body in (("/v1/completions", TEXT), ("/tokenize", {"prompt": "a"})):
            error = httpx2.post(live.url + path, json={**body, "allow_special": True}).json()["error"]
            assert error["param"] == "allow_special" and "start the server with --allow-special" in error["message"]


def test_no_effort_is_what_a_model_without_thoughts_makes(live):
    asked = {**CHAT, "max_tokens": 4, "temperature": 0}
    plain, effortless = (
        httpx2.post(f"{live.url}/v1/chat/completions", json={**asked, **more}).json() for more in ({}, {"reasoning_effort": "none"})
    )
    assert effortless["choices"] == plain["choices"] and effortless["usage"]["completion_tokens"]


@pytest.mark.parametrize("fault", [BeichenError("the engine failed: x"), ZeroDivisionError("secret")])
def test_a_fault_of_the_server_is_told_as_its_own_and_without_its_inside(live, monkeypatch, fault):
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(live.service.model.tokenizer, "decode", fail)
    answer = httpx2.post(f"{live.url}/detokenize", json={"tokens": [1]})
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error" and "secret" not in answer.text


@pytest.mark.parametrize("stripped", [True, False])
def test_behind_a_proxy_paths_and_keys_are_as_without(model, stripped):
    """The proxy shows the server under /ai, and takes that off again or not."""
    with live_server(model, keys=("key",), root_path="/ai") as live:
        base = live.url if stripped else f"{live.url}/ai"
        key = {"Authorization": "Bearer key"}
        assert httpx2.get(f"{base}/health").status_code == 200
        assert httpx2.get(f"{base}/v1/models").status_code == httpx2.get(f"{base}/openapi.json").status_code == 401
        assert httpx2.get(f"{base}/").json()["api"] == "/ai/v1"
        assert httpx2.get(f"{base}/v1/models", headers=key).json()["data"][0]["id"] == "small"
        assert httpx2.get(f"{base}/openapi.json", headers=key).json()["servers"] == [{"url": "/ai"}]
        assert "did you mean '/ai/v1/models'" in httpx2.get(f"{base}/models", headers=key).json()["error"]["message"]
        for shown, words in (("key", "Bearer KEY"), ("Bearer", "Bearer KEY"), ("Basic key", "Bearer KEY"), ("Bearer no", "not known here")):
            refused = httpx2.get(f"{base}/v1/models", headers={"Authorization": shown})
            assert refused.status_code == 401 and words in refused.json()["error"]["message"]
        assert httpx2.get(f"{base}/aihealth").status_code == httpx2.get(f"{base}/v1/health").status_code == 401
