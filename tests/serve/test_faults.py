"""Whatever goes wrong, a client is told in the one form that it knows, with the right status; and behind a proxy all is as without."""

from __future__ import annotations

from collections.abc import Iterator

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
        assert httpx2.get(f"{base}/v1/models", headers=key).json()["data"][0]["id"] == "small"
        assert httpx2.get(f"{base}/openapi.json", headers=key).json()["servers"] == [{"url": "/ai"}]
        assert httpx2.get(f"{base}/aihealth").status_code == httpx2.get(f"{base}/v1/health").status_code == 401
