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
        assert httpx2.get(f"{base}/aihealth").status_code == httpx2.get(f"{base}/v1/health").status_code == 401
