"""What the files of a published model are called: its config, its weights in one of two formats, what stands beside them."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatch

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
SINGLE = ("model.safetensors", "pytorch_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SUFFIXES = (".safetensors", ".bin", ".pth")

_SHARDS = (re.compile(r"model[-_]\d+-of-\d+\.safetensors"), re.compile(r"pytorch_model[-_]\d+-of-\d+\.bin"))
_BESIDE = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.tiktoken", "spiece.model",
    "chat_template*", GENERATION_CONFIG, "*licen[cs]e*", "*许可*", "*use_policy*", "notice*", "copying*",
)  # fmt: skip
_FOR_OTHERS = ("readme*", "*.py")  # we neither run nor fetch them


def stands_beside(name: str) -> bool:
    """Whether a file belongs to the model: tokenizer, generation settings, chat template, licence."""
    return any(fnmatch(name.lower(), pattern) for pattern in _BESIDE)


def is_kept(name: str) -> bool:
    """Whether a file goes along when a model is saved anew."""
    return stands_beside(name) or any(fnmatch(name.lower(), pattern) for pattern in _FOR_OTHERS)


def weights_among(names: Collection[str]) -> list[str]:
    """The files that hold the weights once, safetensors before ``.bin``, with their index; none of other forms of the same model."""
    for single, index, shard in zip(SINGLE, INDEXES, _SHARDS, strict=True):
        if single in names:
            return [single]
        shards = sorted(name for name in names if shard.fullmatch(name))
        if shards:
            return [index, *shards] if index in names else shards
    others = [name for name in names if name.endswith(SUFFIXES)]
    return others if len(others) == 1 else []
