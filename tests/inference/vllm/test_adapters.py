"""Adapters handed over to vLLM: what is refused before it starts, what it is given, and (where it is installed) its answers beside ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import beichen
from beichen.checkpoints.adapter_folder import read_adapter, save_adapter
from beichen.checkpoints.fingerprints import record_base
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.tokenizers import load_tokenizer
from beichen.cli.main import main
from beichen.errors import CheckpointError, SettingsError, TokenizerError
from beichen.inference.vllm import serving
from beichen.inference.vllm.adapters import VllmAdapters, adapters_for_vllm
from beichen.inference.vllm.serving import VllmOptions, command_of, folder_for_vllm
from beichen.models.adapters import AdapterShape, attach
from beichen.models.linear_names import choose
from beichen.models.registry import load_family
from beichen.text.byte_pair_training import train_tokenizer
from beichen.util.progress import SILENT, Reporter, SilentReporter
from tests import needs
from tests.inference.small_models import TEXTS, small_tokenizer
from tests.inference.vllm.test_serving import save_small
from tests.models.test_adapters import shake


def write_adapter(folder: Path, base: Path, family: str, *, rank: int = 3, **form: Any) -> Path:
    checkpoint, tables = load_checkpoint(base), load_family(family)
    ranks = dict.fromkeys(choose(["all-linear"], tables, checkpoint.decoder), rank)
    shape = AdapterShape(alpha=6.0, ranks=ranks, **form)
    attach(checkpoint.decoder, tables.names, shape, seed=len(folder.name))
    shake(checkpoint.decoder)
    save_adapter(folder, checkpoint.decoder, tables.names, shape, base=record_base(base, family=family, dtype=torch.float32))
    return folder


def handed(
    base: Path, cache: Path, folders: Mapping[str, Path], *, template: str | None = None, reporter: Reporter = SILENT
) -> VllmAdapters:  # fmt: skip
    given = {name: str(folder) for name, folder in folders.items()}
    tokenizer = load_tokenizer(base, template=template)
    return adapters_for_vllm(given, base, folder_for_vllm(base, cache), cache, tokenizer=tokenizer, template=template, reporter=reporter)


class Heard(SilentReporter):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize("family", ["llama", "telechat2"])
def test_adapters_go_along_as_they_are_or_under_llama_s_names_once(tmp_path, family):
    base = save_small(tmp_path / "base", family)
    given = {"a": write_adapter(tmp_path / "a", base, family), "bb": write_adapter(tmp_path / "bb", base, family, rank=9)}
    found = handed(base, tmp_path / "cache", given)
    assert found.rank == 16, "the next that vLLM has room for"
    if family == "llama":
        assert found.folders == given
        return
    layers = {name.rpartition(".")[2] for name in read_adapter(found.folders["a"]).matrices}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    written = {path: path.stat().st_mtime_ns for folder in found.folders.values() for path in folder.iterdir()}
    assert handed(base, tmp_path / "cache", given) == found
    assert written == {path: path.stat().st_mtime_ns for path in written}


def test_what_vllm_cannot_do_and_what_is_not_of_this_base_is_refused(tmp_path):
    base, other = save_small(tmp_path / "base", "telechat2"), save_small(tmp_path / "other", "llama")
    dora, wide = write_adapter(tmp_path / "d", base, "telechat2", dora=True), write_adapter(tmp_path / "w", base, "telechat2", rank=513)
    strange = write_adapter(tmp_path / "s", other, "llama")
    for folder, fault, said in (
        (dora, SettingsError, "--adapter one: vLLM does not compute DoRA"),
        (wide, SettingsError, "--adapter one: rank 513, and vLLM takes 512 at most"),
        (strange, CheckpointError, "no linear layer of this model"),
        (other, CheckpointError, "holds no adapter"),
    ):
        with pytest.raises(fault, match=said):
            handed(base, tmp_path / "cache", {"one": folder})


def test_an_adapter_with_ways_of_its_own(tmp_path):
    """Another chat format is refused unless one is asked for; other defaults are told; other tokens are refused."""
    base = save_small(tmp_path / "base", "llama")
    own = write_adapter(tmp_path / "own", base, "llama")
    heard = Heard()
    load_tokenizer(base).save(own)
    for folder in (base, own):
        (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.5}')
    handed(base, tmp_path, {"own": own}, reporter=heard)
    assert not heard.warnings
    (own / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.3}')
    handed(base, tmp_path, {"own": own}, reporter=heard)
    assert heard.warnings == ["--adapter own: its generation_config.json differs from the base's, which vLLM follows for all"]
    load_tokenizer(base, template="telechat2-bare").save(own)
    with pytest.raises(SettingsError, match=r"another chat format than the base.*\n.*--template NAME"):
        handed(base, tmp_path, {"own": own})
    handed(base, tmp_path, {"own": own}, template="telechat2-bare")
    train_tokenizer(TEXTS, vocab_size=310).save(own)
    with pytest.raises(TokenizerError, match="its tokens are not those of the base"):
        handed(base, tmp_path, {"own": own})


def test_the_command_line_names_them(tmp_path):
    adapters = VllmAdapters(folders={"诗": tmp_path / "a,b", "law": tmp_path / "c"}, rank=8)
    command = command_of(["vllm"], tmp_path, VllmOptions(name="m", adapters=adapters))
    begin = command.index("--enable-lora")
    assert command[begin + 1] == "--lora-modules"
    assert [json.loads(word) for word in command[begin + 2 : begin + 4]] == [
        {"name": name, "path": str(folder)} for name, folder in adapters.folders.items()
    ]
    assert command[begin + 4 :] == ["--max-lora-rank", "8", "--max-loras", "2"]
    fewer = command_of(["vllm"], tmp_path, VllmOptions(name="m", adapters=adapters, more={"max-loras": "1"}))
    assert fewer[-2:] == ["--max-loras", "1"] and fewer.count("--max-loras") == 1
    with pytest.raises(SettingsError, match="lora-modules: an option of beichen serve says the same"):
        command_of(["vllm"], tmp_path, VllmOptions(name="m", adapters=adapters, more={"lora-modules": "x=y"}))


def test_the_command_hands_them_over(tmp_path, monkeypatch):
    base = save_small(tmp_path / "base", "telechat2")
    write_adapter(tmp_path / "poems", base, "telechat2")
    started: list[list[str]] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(serving, "find_vllm", lambda: ["vllm"])
    monkeypatch.setattr(os, "execvpe", lambda program, words, environment: started.append(words))
    main(["serve", str(base), "--engine", "vllm", "--adapter", f"poems={tmp_path / 'poems'}"])
    module = json.loads(started[0][started[0].index("--lora-modules") + 1])
    assert module["name"] == "poems" and module["path"].startswith(str(tmp_path / "cache"))
    assert main(["serve", str(base), "--engine", "vllm", "--adapter", f"base={tmp_path / 'poems'}"]) == 2


ASKED = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
folder, adapters, rank, prompts = json.loads(sys.argv[1])
model = LLM(folder, dtype="float32", max_model_len=128, enforce_eager=True, kv_cache_memory_bytes=1 << 28, enable_lora=True,
            max_loras=len(adapters), max_lora_rank=rank)
settings = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, detokenize=False)
asked = [{"prompt_token_ids": ids} for ids in prompts]
told = [
    [list(answer.outputs[0].token_ids) for answer in model.generate(asked, settings, lora_request=adapter, use_tqdm=False)]
    for adapter in (None, *(LoRARequest(str(number), number + 1, path) for number, path in enumerate(adapters)))
]
print("TOLD", json.dumps(told))
"""


@pytest.mark.parametrize("family", ["telechat2", "llama"])
def test_vllm_answers_by_each_adapter_as_our_engine(tmp_path, family):
    """In float32, ids for ids. BEICHEN_TEST_VLLM_PYTHON names the interpreter of an environment that has vLLM."""
    python = needs.vllm_python()
    base = save_small(tmp_path / "base", family)
    folders = {"a": write_adapter(tmp_path / "a", base, family), "bb": write_adapter(tmp_path / "bb", base, family, rank=9, rslora=True)}
    given = handed(base, tmp_path / "cache", folders)
    prompts = [[5, 9, 200, 31], list(range(3, 60)), small_tokenizer().encode("今天天气很好")]
    served = folder_for_vllm(base, tmp_path / "cache")
    asked = json.dumps([str(served), [str(folder) for folder in given.folders.values()], given.rank, prompts])
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    done = subprocess.run([python, "-c", ASKED, asked], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))[5:])
    model = beichen.load(base, device="cpu", dtype="float32", adapters=folders)
    for name, theirs in zip((None, *folders), told, strict=True):
        ours = (model if name is None else model.with_adapter(name)).generate(prompts, max_new_tokens=24, stop_ids=[])
        assert theirs == [list(answer.ids) for answer in ours], name
