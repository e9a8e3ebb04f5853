"""Handing a folder over to vLLM: the command line, what is refused, and (where vLLM is installed) its answers beside ours."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import beichen
from beichen.cli.main import main
from beichen.cli.serve import add_arguments
from beichen.cli.serve_vllm import MAPPED
from beichen.errors import ConfigError, SettingsError
from beichen.inference.language_model import LanguageModel
from beichen.inference.vllm import serving
from beichen.inference.vllm.lengths import LengthWords
from beichen.inference.vllm.serving import VllmOptions, command_of, environment_of, folder_for_vllm, read_more
from beichen.nn.config import RopeConfig
from tests import needs
from tests.inference.small_models import small_decoder, small_tokenizer

LLAMA: dict[str, Any] = {"rope": RopeConfig(base=10000.0), "attention_output_bias": False, "down_bias": False}


def save_small(folder: Path, family: str) -> Path:
    changes = LLAMA if family == "llama" else {}
    decoder = small_decoder(seed=4, trained_length=192, hidden_size=128, head_dim=32, **changes)
    LanguageModel(decoder, small_tokenizer(), family=family).save(folder)
    return folder


def test_the_command_line_says_what_was_said_and_nothing_else(tmp_path):
    options = VllmOptions(
        name="m",
        port=9,
        length=LengthWords(max_model_len=64),
        kv_bytes=1 << 20,
        keys=["k"],
        threads=3,
        more=read_more(["--a_b=c=d", "eager"]),
    )
    command = command_of(["vllm"], tmp_path, options)
    assert command == [
        "vllm", "--model", str(tmp_path), "--served-model-name", "m", "--host", "127.0.0.1", "--port", "9", "--max-model-len", "64",
        "--kv-cache-memory-bytes", "1048576", "--a-b", "c=d", "--eager",
    ]  # fmt: skip
    environment = environment_of(options, {"PATH": "p", "HF_HUB_OFFLINE": "0"})
    assert (environment["VLLM_API_KEY"], environment["OMP_NUM_THREADS"], environment["HF_HUB_OFFLINE"]) == ("k", "3", "0")
    assert not any(word == "k" for word in command)  # keys are nobody's to read
    with pytest.raises(SettingsError, match="takes one key"):
        environment_of(VllmOptions(name="m", keys=["k", "l"]), {})
    with pytest.raises(SettingsError, match="max-model-len: an option of beichen serve says the same"):
        command_of(["vllm"], tmp_path, VllmOptions(name="m", length=LengthWords(max_model_len=4), more={"max-model-len": "8"}))
    with pytest.raises(SettingsError, match="expected NAME or NAME=VALUE"):
        read_more(["a b=c"])


def test_a_folder_is_exported_once_or_served_as_it_is(tmp_path):
    llama, telechat = save_small(tmp_path / "llama", "llama"), save_small(tmp_path / "telechat", "telechat2")
    assert folder_for_vllm(llama, tmp_path / "cache") == llama and not (tmp_path / "cache").exists()
    target = folder_for_vllm(telechat, tmp_path / "cache")
    ids = list(range(20))
    ours, theirs = (beichen.load(folder, device="cpu", dtype="float32")(ids) for folder in (telechat, target))
    assert json.loads((target / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert (ours - theirs).abs().max() < 1e-4
    written = (target / "config.json").stat().st_mtime_ns
    assert folder_for_vllm(telechat, tmp_path / "cache") == target and (target / "config.json").stat().st_mtime_ns == written


def test_an_adapter_alone_is_refused_with_what_helps(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"an adapter alone is not what vLLM serves\n.*--adapter NAME=DIR"):
        folder_for_vllm(tmp_path, tmp_path / "cache")


def test_what_llama_layout_cannot_say_is_refused_by_name(tmp_path, monkeypatch):
    folder = save_small(tmp_path / "telechat", "telechat2")
    config, published, family = serving.load_config(folder)
    other = replace(config, embedding_scale=2.0)
    monkeypatch.setattr(serving, "load_config", lambda path: (other, published, family))
    with pytest.raises(ConfigError, match=r"Llama layout cannot say embedding_scale=2\.0"):
        folder_for_vllm(folder, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max-waiting", "9"], "--max-waiting goes with --engine beichen alone\n  remedy: leave it out: vLLM's queue has no bound"),
        (["--draft-from-text"], "--draft-from-text goes with --engine beichen alone"),
        (["--allow-special"], "--allow-special goes with --engine beichen alone"),
        (["--device", "cpu"], "vLLM's own build decides the device"),
        (["--port", "0"], "vLLM does not look for a free one"),
        (["--kv-memory", "much"], "--kv-memory"),
        ([], "vLLM is not installed"),
    ],
)
def test_options_that_vllm_lacks_are_refused(tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["serve", str(tmp_path), "--engine", "vllm", *flags]) == 2
    assert said in capsys.readouterr().err


def test_every_option_of_the_command_is_mapped_or_has_its_reason():
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    names = {action.dest for action in parser._actions}
    assert names >= MAPPED and names >= serving.HERE_ALONE.keys() and not MAPPED & serving.HERE_ALONE.keys()


def test_vllm_options_need_vllm(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--vllm-option", "x"]) == 2
    assert "--vllm-option goes with --engine vllm" in capsys.readouterr().err


ASKED = """
import json, sys
from pathlib import Path
from beichen.inference.api import Generator, Request, join
from beichen.inference.vllm.generator import VllmGenerator
from beichen.text.tokenizer import read_tokenizer
folder, prompts = Path(sys.argv[1]), json.loads(sys.argv[2])
options = {"dtype": "float32", "max_model_len": 128, "enforce_eager": True, "kv_cache_memory_bytes": 1 << 28}
model: Generator = VllmGenerator(folder, read_tokenizer(folder), **options)
greedy = [Request(prompt_ids=ids, max_new_tokens=24) for ids in prompts]
answers = model.generate(greedy)
stop = next(answer.text[4:6] for answer in answers if len(answer.text) > 8)
cut = model.generate([Request(prompt_ids=ids, max_new_tokens=24, stop_strings=[stop], stop_ids=[9]) for ids in prompts])
faults = dict(model.each([Request(prompt_ids=[1], max_new_tokens=200), greedy[0]]))
said = [join(model.stream(request)) for request in greedy] == answers
broken = model.stream(greedy[0])
next(broken)
broken.close()
print("TOLD", json.dumps({
    "ids": [answer.ids for answer in answers], "texts": [answer.text for answer in answers], "stop": stop, "stream": said,
    "cut": [[answer.text, answer.finish_reason] for answer in cut], "fault": str(faults[0]), "after": faults[1].ids == answers[0].ids,
}))
"""


@pytest.mark.parametrize("family", ["telechat2", "llama"])
def test_vllm_answers_behind_the_same_protocol_as_our_engine(tmp_path, family):
    """In float32, ids for ids. BEICHEN_TEST_VLLM_PYTHON names the interpreter of an environment that has vLLM."""
    python = needs.vllm_python()
    folder = save_small(tmp_path / "model", family)
    prompts = [[5, 9, 200, 31], list(range(3, 60)), small_tokenizer().encode("今天天气很好"), [7]]
    served = folder_for_vllm(folder, tmp_path / "cache")
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    done = subprocess.run(
        [python, "-c", ASKED, str(served), json.dumps(prompts)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))[5:])
    model = beichen.load(folder, device="cpu", dtype="float32")
    ours = model.generate(prompts, max_new_tokens=24, stop_ids=[])
    assert told["ids"] == [list(answer.ids) for answer in ours] and told["texts"] == [answer.text for answer in ours]
    cut = model.generate(prompts, max_new_tokens=24, stop=told["stop"], stop_ids=[9])
    assert told["cut"] == [[answer.text, answer.finish_reason] for answer in cut]
    assert told["stream"] and told["after"] and "vLLM was started for 128" in told["fault"]
