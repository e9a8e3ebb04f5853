"""``beichen serve``: a process that says where it is, answers, and ends when it is told to."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx2
import openai
import pytest

import beichen
from beichen.cli.main import main
from beichen.inference.language_model import LanguageModel
from beichen.serve.running import Server
from beichen.text.byte_pair_training import train_tokenizer
from beichen.util.machine import usable_memory
from tests.cli.model_folder import model_folder as model_folder
from tests.inference.small_models import TEXTS, small_decoder

FLAGS = ["--device", "cpu", "--dtype", "float32", "--threads", "1"]


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], openai.OpenAI, IO[str]]]:
    """A process that serves the folder as ``tiny``, a client of it, and its log."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        words = [sys.executable, "-m", "beichen", "serve", str(folder), "--port", "0", "--name", "tiny", *FLAGS, *flags]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            place = re.search(r"serving tiny at (http://127\.0\.0\.1:\d+/v1)", process.stdout.readline())
            assert place is not None
            yield process, openai.OpenAI(base_url=place[1], api_key="secret", max_retries=0), log
        finally:
            process.kill()


def test_it_says_where_it_is_answers_and_ends_well_when_told_to(model_folder, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("# of the team\nsecret\n\n")
    with serving(model_folder, "--api-key-file", str(keys), "--log-format", "json") as (process, client, log):
        messages = [{"role": "user", "content": "今天"}]
        answer = client.chat.completions.create(
            model="tiny", messages=messages, max_tokens=8, temperature=0, extra_headers={"X-Request-Id": "mine-1"}
        )
        expected = beichen.load(model_folder, device="cpu", dtype="float32").chat(messages, max_new_tokens=8)
        assert answer.choices[0].message.content == expected.text and answer._request_id == "mine-1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        log.seek(0)
        text = log.read()
        lines = [json.loads(one) for one in text.splitlines()]
        assert any(one.get("message", "").startswith("loading ") for one in lines) and {one["level"] for one in lines} == {"info"}
        (line,) = [one for one in lines if "request_id" in one]
        assert line["request_id"] == "mine-1" and line["status"] == 200 and line["model"] == "tiny" and line["outcome"] == "ok"
        assert line["tokens_out"] == len(expected.ids) and line["finish_reason"] == expected.finish_reason
        assert line["key"] == hashlib.sha256(b"secret").hexdigest()[:12] and "secret" not in text and "今天" not in text


STILL_LOADING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it, and so would this process
import beichen.inference.language_model as language_model
from beichen.cli.main import main
from beichen.serve.running import Server

def load(*_, **__):
    print("loading", flush=True)
    time.sleep(600)

language_model.load = load
sys.exit(main(["serve", sys.argv[1], "--port", "0"]))
"""


def test_nobody_looks_for_garbage_among_what_was_loaded(model_folder, monkeypatch):
    """A look through a loaded model's objects stops all answers for a tenth of a second, and took most of the time to end."""
    seen = []

    def run(self: Server, sockets: object) -> None:
        seen.append(gc.get_freeze_count())
        self.should_exit = True

    monkeypatch.setattr(Server, "run", run)
    before = gc.get_freeze_count()
    try:
        main(["serve", str(model_folder), "--port", "0", *FLAGS])
    finally:
        gc.unfreeze()
    assert seen[0] - before > 10_000


def test_what_products_have_prepared_is_bounded_before_anything_is_multiplied(model_folder, monkeypatch):
    """What is kept for each length of a batch took half a gigabyte in a server of many lengths; who says otherwise is heard."""
    monkeypatch.setattr(Server, "run", lambda self, sockets: setattr(self, "should_exit", True))
    monkeypatch.setattr(os, "environ", {**os.environ, "LRU_CACHE_CAPACITY": "7"})
    os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
    try:
        main(["serve", str(model_folder), "--port", "0", *FLAGS])
    finally:
        gc.unfreeze()
    assert (os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"], os.environ["LRU_CACHE_CAPACITY"]) == ("128", "7")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_that_is_still_loading_ends_as_well(model_folder, number, code):
    words = [sys.executable, "-c", STILL_LOADING, str(model_folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "loading\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(model_folder, number):
    """What runs then are some 20,000 tokens, which no machine has done within the moment between two signals."""
    with serving(model_folder, "--shutdown-seconds", "600") as (process, client, _):
        body = json.dumps({"model": "tiny", "prompt": "一", "n": 128, "max_tokens": 180, "temperature": 1, "ignore_eos": True}).encode()
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as reader:
            reader.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            while "beichen_queue_running 0" in client.get("/../metrics", cast_to=httpx2.Response).text:
                pass
            process.send_signal(number)
            with pytest.raises(openai.APIError):  # 503, or no answer, if it has ended already
                while True:
                    client.completions.create(model="tiny", prompt="一", max_tokens=1)
            process.send_signal(number)
            assert process.wait(60) == 128 + number


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--api-key-file", "{folder}/none.txt"], "none.txt: cannot be read as a list of API keys"),
        (["--api-key-file", "{folder}/empty.txt"], "empty.txt: holds no API key"),
        (["--kv-memory", "much"], "--kv-memory: 'much' is no amount of memory"),
        (["--port", "99999"], "--port 99999: expected 0 to 65535"),
        (["--port", "{taken}"], "Address already in use"),
        (["--max-rows", "0"], "--max-rows 0: expected 1 or more"),
        (["--max-model-len", "1"], "--max-model-len 1: expected 2 or more"),
        (["--max-streams-per-key", "0"], "--max-streams-per-key 0: expected 1 or more"),
        (["--request-seconds", "0"], "--request-seconds 0.0: expected a number above 0"),
        (["--stall-seconds", "nan"], "--stall-seconds nan: expected a number above 0"),
    ],
)
def test_faults_of_settings_are_told_before_the_weights_are_read(tmp_path, capsys, words, said):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        named = {"folder": tmp_path, "taken": other.getsockname()[1]}
        assert main(["serve", str(tmp_path / "no model"), *FLAGS, *(word.format(**named) for word in words)]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture(scope="session")
def without_weights(model_folder, tmp_path_factory) -> Path:
    """The small files alone: whoever reads weights fails."""
    folder: Path = tmp_path_factory.mktemp("models") / "small"
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--template", "nix"], "nix"),
        (["--adapter", "x={none}"], "none: no such folder"),
        (["--adapter", "x={model}"], "holds no adapter (adapter_config.json)"),
        (["--draft-model", "{none}"], "expected the folder of a small model"),
        (["--draft-model", "{other}"], "its tokenizer is not that of"),
        (["--kv-memory", "1"], "--kv-memory 1: a key-value cache of 1 B holds no dialogue of this model"),
    ],
)
def test_what_small_files_tell_is_told_before_the_weights_are_read(model_folder, without_weights, tmp_path, capsys, words, said):
    other = train_tokenizer([*TEXTS, "其他的文字其他的文字"], vocab_size=320)
    LanguageModel(small_decoder(), other, family="telechat2").save(tmp_path / "other")
    named = {"none": tmp_path / "none", "model": model_folder, "other": tmp_path / "other"}
    assert main(["serve", str(without_weights), "--port", "0", *FLAGS, *(word.format(**named) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_the_least_memory_that_is_named_serves(model_folder, capsys, monkeypatch):
    def run(self: Server, sockets: object) -> None:
        self.should_exit = True

    monkeypatch.setattr(Server, "run", run)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process goes on
    given = ["serve", str(model_folder), "--port", "0", *FLAGS]
    assert main([*given, "--kv-memory", "1"]) == 2
    least = re.search(r"remedy: (\d+) bytes", capsys.readouterr().err)
    assert least is not None
    assert main([*given, "--kv-memory", str(int(least[1]) - 1)]) == 2
    assert "holds no dialogue" in capsys.readouterr().err
    main([*given, "--kv-memory", least[1]])
    assert "--kv-memory" not in capsys.readouterr().err, "the trained length, 192 tokens, is held"
    main([*given, "--max-model-len", "192"])
    assert "trained" not in capsys.readouterr().err
    main([*given, "--max-model-len", "193"])
    assert "--max-model-len 193: the model was trained on 192 tokens" in capsys.readouterr().err


def test_one_of_two_guesses(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--draft-from-text", "--draft-model", str(tmp_path)]) == 2
    assert "--draft-from-text and --draft-model both say who guesses: give one" in capsys.readouterr().err


@pytest.mark.skipif(usable_memory() is None, reason="this system does not tell how much memory there is")
def test_a_cache_larger_than_the_memory_is_refused_before_anything_is_read(model_folder, capsys):
    assert main(["serve", str(model_folder), "--port", "0", "--device", "cpu", "--kv-memory", f"{1 << 50}B"]) == 2
    said = capsys.readouterr().err
    assert f"--kv-memory {1 << 50}B: a key-value cache" in said and "does not fit into" in said and "loading" not in said
