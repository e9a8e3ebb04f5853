"""The tokenizer files of a checkpoint folder: which are kept, which holds the vocabulary, and what the settings beside it say.

Comes in: a folder as published. Goes out: files by name, byte for byte, an :class:`~beichen.text.engine.Engine` and the roles of control
tokens. Rules kept here: ids come from pieces by their names, never from numbers in settings; a role whose name the vocabulary
does not have is an error; a misspelled ``specail_tokens_map.json`` is kept and, as where it was published, not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beichen.errors import TokenizerError
from beichen.text.engine import Engine
from beichen.text.normalization import NORMALIZATION_KEY, STATED_STEPS, normalizer, ordered_steps
from beichen.text.sentencepiece_engine import SentencePieceEngine
from beichen.text.tiktoken_file import tiktoken_as_json
from beichen.text.tokenizer_json import TokenizerJson

JSON_FILE = "tokenizer.json"
SENTENCEPIECE_FILE = "tokenizer.model"
TIKTOKEN_SUFFIX = ".tiktoken"
SETTINGS_FILE = "tokenizer_config.json"
JINJA_FILE = "chat_template.jinja"
_ROLES_FILE = "special_tokens_map.json"
_ADDED_FILE = "added_tokens.json"
_KEPT = (
    JSON_FILE, SENTENCEPIECE_FILE, f"*{TIKTOKEN_SUFFIX}", SETTINGS_FILE, _ROLES_FILE, "specail_tokens_map.json", _ADDED_FILE,
    JINJA_FILE, "chat_template.json", "vocab.json", "merges.txt",
)  # fmt: skip
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

# What stands for a role where the settings do not say it.
KNOWN_NAMES: Mapping[str, tuple[str, ...]] = {
    "bos_token": ("<_start>", "<s>", "<|begin_of_text|>", "[BOS]"),
    "eos_token": ("<_end>", "</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "[EOS]"),
    "pad_token": ("<_pad>", "<pad>", "[PAD]"),
}


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder that belongs to its tokenizer."""
    files: dict[str, bytes] = {}
    for path in sorted({path for pattern in _KEPT for path in folder.glob(pattern)}):
        if path.is_file():
            try:
                files[path.name] = path.read_bytes()
            except OSError as error:
                raise TokenizerError(f"{path}: cannot be read: {error.strerror}") from error
    return files


def holds_tokenizer(folder: Path) -> bool:
    """Whether there is a vocabulary in a folder."""
    return vocabulary_name([path.name for path in folder.glob("*")]) is not None


def vocabulary_name(names: list[str] | Mapping[str, bytes]) -> str | None:
    """Which of these files holds the vocabulary."""
    known = [name for name in (JSON_FILE, SENTENCEPIECE_FILE) if name in names]
    return next(iter(known + sorted(name for name in names if name.endswith(TIKTOKEN_SUFFIX))), None)


class Settings:
    """``tokenizer_config.json`` and the smaller files beside it."""

    def __init__(self, files: Mapping[str, bytes], origin: str) -> None:
        self.origin = origin
        self.config = parse_object(files.get(SETTINGS_FILE), f"{origin}/{SETTINGS_FILE}")
        self._roles = parse_object(files.get(_ROLES_FILE), f"{origin}/{_ROLES_FILE}")
        self._added = parse_object(files.get(_ADDED_FILE), f"{origin}/{_ADDED_FILE}")

    def role(self, key: str) -> tuple[bool, str | None]:
        """Whether the files speak of a role, and the name they give it."""
        for source in (self.config, self._roles):
            if key in source:
                value = source[key]
                return True, value.get("content") if isinstance(value, dict) else value
        return False, None

    def added(self) -> dict[str, int]:
        """Tokens beside the vocabulary, by name."""
        try:
            found = {str(name): int(token) for name, token in self._added.items()}
            for token, value in (self.config.get("added_tokens_decoder") or {}).items():
                found[str(value["content"])] = int(token)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TokenizerError(
                f"{self.origin}: {_ADDED_FILE} or added_tokens_decoder of {SETTINGS_FILE} is not what it should be ({error!r})",
                remedy='expected {"<name>": id} there and {"id": {"content": "<name>"}} here',
            ) from error
        return found

    def role_names(self) -> list[str]:
        """The names that have a role, with the published classes' own defaults for start and end."""
        names = [name for key in _ROLES for name in [self.role(key)[1]] if name]
        for key in ("bos_token", "eos_token"):
            names += () if self.role(key)[0] else KNOWN_NAMES[key]
        more = self.config.get("additional_special_tokens") or self._roles.get("additional_special_tokens") or ()
        return names + [str(value.get("content") if isinstance(value, dict) else value) for value in more]

    def jinja(self, files: Mapping[str, bytes]) -> str | None:
        """The chat template that came with the folder, as a Jinja program."""
        if JINJA_FILE in files:
            return files[JINJA_FILE].decode("utf-8", "replace")
        program = self.config.get("chat_template") or parse_object(files.get("chat_template.json"), "").get("chat_template")
        if isinstance(program, list):  # several programs by name
            program = {entry.get("name"): entry.get("template") for entry in program if isinstance(entry, dict)}.get("default")
        return program if isinstance(program, str) else None


def make_engine(files: Mapping[str, bytes], settings: Settings) -> Engine:
    """The engine that the vocabulary file needs."""
    name = vocabulary_name(files)
    if name is None:
        raise TokenizerError(
            f"{settings.origin}: holds no {JSON_FILE}, {SENTENCEPIECE_FILE} or *{TIKTOKEN_SUFFIX}",
            remedy="give a folder that holds a tokenizer, or train one",
        )
    origin = f"{settings.origin}/{name}"
    if name == JSON_FILE:
        steps = ordered_steps(settings.config.get(NORMALIZATION_KEY) or ())
        rewrite = normalizer([step for step in steps if step not in STATED_STEPS])
        engine = TokenizerJson(files[name], origin=origin, rewrite=rewrite)
        for added, token in settings.added().items():
            if engine.token_of(added) not in (None, token):
                raise TokenizerError(
                    f"{origin}: '{added}' has the id {engine.token_of(added)}, the settings beside it give it {token}",
                    remedy="the two files belong to different tokenizers",
                )
        return engine
    if name == SENTENCEPIECE_FILE:
        return SentencePieceEngine(files[name], origin=origin, added=settings.added(), roles=settings.role_names())
    return TokenizerJson(tiktoken_as_json(files[name], origin), origin=origin)


def parse_object(data: bytes | None, origin: str) -> dict[str, Any]:
    """A JSON object, empty where there is no file."""
    if data is None:
        return {}
    try:
        value = json.loads(data)
    except ValueError as error:
        raise TokenizerError(f"{origin}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{origin}: expected an object, got {type(value).__name__}")
    return value


def object_file(value: Mapping[str, Any]) -> bytes:
    """A JSON object as it is written."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()
