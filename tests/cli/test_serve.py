"""``beichen serve``: a process that says where it is, answers, and ends when it is told to."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import openai
import pytest

import beichen
from beichen.cli.main import main
from tests.cli.model_folder import model_folder as model_folder

FLAGS = ["--device", "cpu", "--dtype", "float32", "--threads", "1"]


def test_it_says_where_it_is_answers_and_ends(model_folder, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("# of the team\nsecret\n\n")
    words = [sys.executable, "-m", "beichen", "serve", str(model_folder), "--port", "0", "--name", "tiny", "--api-key-file", str(keys)]
    process = subprocess.Popen([*words, *FLAGS], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        place = re.search(r"serving tiny at (http://127\.0\.0\.1:\d+/v1)", process.stdout.readline())
        assert place is not None
        client = openai.OpenAI(base_url=place[1], api_key="secret", max_retries=0)
        messages = [{"role": "user", "content": "今天"}]
        answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=8, temperature=0)
        expected = beichen.load(model_folder, device="cpu", dtype="float32").chat(messages, max_new_tokens=8)
        assert answer.choices[0].message.content == expected.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    finally:
        process.kill()


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
    ],
)
def test_faults_of_settings_are_told_before_the_weights_are_read(tmp_path, capsys, words, said):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        named = {"folder": tmp_path, "taken": other.getsockname()[1]}
        assert main(["serve", str(tmp_path / "no model"), *FLAGS, *(word.format(**named) for word in words)]) == 2
    assert said in capsys.readouterr().err
