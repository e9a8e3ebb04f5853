"""The server is as ``/openapi.json`` says: schemathesis reads it, sends what it allows and what it forbids, looks at what comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi.applications
import httpx2
import pytest

from beichen.inference.language_model import LanguageModel
from beichen.serve.app import create_app
from beichen.serve.service import Service
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.serve.live_server import live_server

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("phase", "keys"), [("coverage", ("key",)), ("fuzzing", ())])
def test_schemathesis_finds_no_lie(phase, keys, tmp_path):
    """coverage: every bound, every missing and every foreign field; fuzzing: random bodies. Every status, type and schema of an answer.

    The stateful phase follows links from one answer to a later request. It finds none ("not applicable"), and none would make sense: no
    route makes a thing that another could read, change or delete; what goes from one answer into the next request is texts and ids, which
    the other phases draw as well.
    """
    model = LanguageModel(small_decoder(trained_length=256), small_tokenizer(), family="telechat2")
    with live_server(model, keys=keys, original_paths=True) as live:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{live.url}/openapi.json", "--phases", phase, "--max-examples", "25",
            "--checks", "all", "--exclude-checks", "positive_data_acceptance,negative_data_rejection", "--suppress-health-check", "all",
            "--seed", "1", "--continue-on-failure", "--no-shrink", "--generation-database", "none", "--request-timeout", "120",
            *[part for key in keys for part in ("--header", f"Authorization: Bearer {key}")],
        ]  # fmt: skip
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.serve.openapi_rules", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert httpx2.get(f"{live.url}/health").status_code == 200


def test_bounds_of_the_served_model_are_in_the_description():
    model = LanguageModel(small_decoder(trained_length=256), small_tokenizer(), family="telechat2")
    described = create_app(Service(model, "small")).openapi()

    def fields(path: str) -> dict:
        return described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]

    assert fields("/v1/chat/completions")["model"]["enum"] == ["small"]
    assert fields("/detokenize")["tokens"]["items"]["maximum"] == 319
    assert fields("/v1/embeddings")["dimensions"]["anyOf"][0]["enum"] == [32]
    assert "$defs" not in str(described)


def test_a_stream_goes_on_while_the_description_is_built(monkeypatch):
    """It is built in a thread, once, whoever asks at the same time."""
    model = LanguageModel(small_decoder(trained_length=256), small_tokenizer(), family="telechat2")
    begun, go_on, built = threading.Event(), threading.Event(), []
    build = fastapi.applications.get_openapi

    def slow(**told: Any) -> dict[str, Any]:
        begun.set()
        assert go_on.wait(60)
        built.append(told["title"])
        return build(**told)

    monkeypatch.setattr("fastapi.applications.get_openapi", slow)
    with live_server(model) as live, ThreadPoolExecutor() as pool:
        asked = [pool.submit(httpx2.get, f"{live.url}/openapi.json", timeout=60) for _ in range(3)]
        assert begun.wait(60)
        assert httpx2.get(f"{live.url}/v1/models", timeout=60).status_code == 200
        go_on.set()
        assert {one.result().text for one in asked} == {httpx2.get(f"{live.url}/openapi.json").text}
    assert built == ["Beichen"]


def test_every_route_has_its_body_and_its_faults():
    model = LanguageModel(small_decoder(trained_length=256), small_tokenizer(), family="telechat2")
    described = create_app(Service(model, "small"), original_paths=True).openapi()
    for path, ways in described["paths"].items():
        for method, route in ways.items():
            assert route["summary"] and (route.get("description") or path in ("/health", "/ready")), path
            assert (method == "post") == ("requestBody" in route), path
            assert "500" in route["responses"], path
