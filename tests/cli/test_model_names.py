"""Every command that takes a folder takes a model's name, fetched from a hub on localhost."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import beichen
from beichen.cli.main import main
from tests.checkpoints.hubs.hub_fixture import hub as hub
from tests.checkpoints.hubs.hub_server import running_hub
from tests.cli.model_folder import model_folder as model_folder

NAME = "org/small"


@pytest.fixture
def command(model_folder, tmp_path):
    """Runs a command in a process of its own that knows the hub by the libraries' environment variables."""
    with running_hub() as server:
        server.publish(NAME, {path.name: path.read_bytes() for path in model_folder.iterdir()})
        switches = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}
        environment = {key: value for key, value in os.environ.items() if key not in switches} | {
            "HF_ENDPOINT": server.url, "MODELSCOPE_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1",
            "MODELSCOPE_CACHE": str(tmp_path / "ms"), "MODELSCOPE_HOME": str(tmp_path / "ms-home"), "HOME": str(tmp_path),
        }  # fmt: skip

        def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
            words = [sys.executable, "-m", "beichen", *arguments]
            return subprocess.run(words, capture_output=True, text=True, env=environment | more, check=False)

        yield run


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_a_model_is_fetched_once_answers_and_then_answers_offline(command, scheme):
    words = ("generate", f"{scheme}:{NAME}", "--prompt", "今天", "--max-new-tokens", "4", "--device", "cpu", "--dtype", "float32")
    online = command(*words)
    assert online.returncode == 0 and f"fetching {scheme}:{NAME}" in online.stderr, online.stderr
    offline = command(*words, BEICHEN_OFFLINE="1")
    assert offline.returncode == 0 and offline.stdout == online.stdout and "fetching" not in offline.stderr


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_commands_that_describe_or_rewrite_take_names_too(hub, model_folder, tmp_path, capsys, scheme):
    hub.publish(NAME, {path.name: path.read_bytes() for path in model_folder.iterdir()})
    name, target = f"{scheme}:{NAME}", tmp_path / "llama"
    for command in (["inspect", name], ["models", "show", name], ["checkpoint", "verify", name], ["export", name, str(target)]):
        assert main(command) == 0, capsys.readouterr().err
    assert (target / "config.json").exists()
    assert beichen.load_tokenizer(name).decode([5]) == beichen.load_tokenizer(model_folder).decode([5])
    said = capsys.readouterr().err
    assert f"fetching {name}: " in said and "\r" not in said, "the libraries draw no bars of their own"
    assert main(["inspect", f"{scheme}:org/large"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {scheme}:org/large: the hub has no model 'org/large'")
