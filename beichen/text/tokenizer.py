"""``Tokenizer``: text to ids and back, control tokens by name, dialogues to ids; and ``load_tokenizer(folder)``.

Comes in: a folder as published (``tokenizer.json``, and ``tokenizer_config.json`` for the roles of control tokens). Goes out:
the one type that data, training, inference and evaluation use. Rules kept here: text never becomes a control
token unless ``allow_special=True``; decoding is exact bytes; a saved folder is the loaded one, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from beichen.errors import TemplateError, TokenizerError, nearest
from beichen.text.chat import message_from_mapping, render, render_text
from beichen.text.chat_jinja import to_jinja
from beichen.text.chat_template import ChatTemplate, chat_template, template_names
from beichen.text.messages import Message, Rendered
from beichen.text.tokenizer_json import TokenizerJson
from beichen.util.files import write_atomically

VOCABULARY_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
TEMPLATE_KEY = "beichen_chat_template"  # which of our chat formats the model was trained with
_KEPT_FILES = (VOCABULARY_FILE, SETTINGS_FILE, "special_tokens_map.json", "chat_template.jinja")

# What stands for the end of a document where tokenizer_config.json does not say it.
_KNOWN_ENDS = ("<_end>", "</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "[EOS]")


class Tokenizer:
    """A vocabulary with its control tokens and its chat format."""

    def __init__(self, files: Mapping[str, bytes], *, origin: str) -> None:
        """``files``: the published files by name; ``origin``: the folder, for messages."""
        self._files = dict(files)
        self._origin = origin
        self._engine = TokenizerJson(self._files[VOCABULARY_FILE], origin=f"{origin}/{VOCABULARY_FILE}")
        self._settings = _parse_settings(self._files.get(SETTINGS_FILE), f"{origin}/{SETTINGS_FILE}")
        self.vocab_size: int = self._engine.vocab_size
        self.special_ids: Mapping[str, int] = dict(self._engine.control_ids)
        self.end_id: int = self._find_end()
        self.start_id: int | None = self._role("bos_token")
        pad = self._role("pad_token")
        self.pad_id: int = self.end_id if pad is None else pad
        self._template_name = self._find_template()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._files, self._origin)

    def __len__(self) -> int:
        return self.vocab_size

    # -- text and ids

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Ids of a text. Names of control tokens in it are ordinary text, unless ``allow_special``."""
        return self._engine.encode(_text(text), allow_special=allow_special)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text, on all cores."""
        return self._engine.encode_batch([_text(text) for text in texts])

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of ids; bytes that are no UTF-8 become U+FFFD."""
        text = b"".join(self.token_bytes(token) for token in ids if not (skip_special and self.is_hidden(token))).decode("utf-8", "replace")
        return text[1:] if self.strips_first_space and text.startswith(" ") else text

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes that one id stands for; a control token's are its name."""
        if not 0 <= token < self.vocab_size:
            raise TokenizerError(
                f"id {token} is outside this vocabulary (0 to {self.vocab_size - 1})", remedy="is this the tokenizer of that model?"
            )
        return self._engine.pieces[token]

    def piece(self, token: int) -> str:
        """The piece as the file spells it, for people who look at pieces."""
        self.token_bytes(token)
        return self._engine.piece_name(token)

    def is_hidden(self, token: int) -> bool:
        """Whether ``decode`` leaves this id out: control tokens that the file marks special."""
        return token in self._engine.hidden_ids

    @property
    def strips_first_space(self) -> bool:
        """Whether the text of a run of ids begins with a space that was not in the encoded text (``▁`` vocabularies)."""
        return self._engine.leading_space_mark

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ``tokenizer.json``: ids made by two tokenizers agree when this does."""
        return hashlib.sha256(self._files[VOCABULARY_FILE]).hexdigest()

    # -- dialogues

    @property
    def template(self) -> str | None:
        """Name of the chat format, ``None`` when the folder names none that we know."""
        return self._template_name

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids at which an answer ends."""
        stops = [self.end_id]
        if self._template_name is not None:
            stops += [self.special_ids[name] for name in chat_template(self._template_name).stop if name in self.special_ids]
        return tuple(dict.fromkeys(stops))

    def render(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
    ) -> Rendered:
        """Messages (ours, or dicts as clients write them) as ids and loss mask."""
        return render(self._chat_template(), self, _messages(messages), tools=tools or (), add_generation_prompt=add_generation_prompt)

    def render_text(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
    ) -> str:
        """The same as text, for people to read."""
        return render_text(self._chat_template(), _messages(messages), tools=tools or (), add_generation_prompt=add_generation_prompt)

    def _chat_template(self) -> ChatTemplate:
        if self._template_name is None:
            raise TemplateError(
                f"{self._origin}: {SETTINGS_FILE} names no chat format that is known here",
                remedy=f"choose one by name when loading: {', '.join(template_names())}",
            )
        return chat_template(self._template_name)

    # -- folders

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer's files, each whole or not at all."""
        target = Path(folder)
        for name, data in self._files.items():
            write_atomically(target / name, data)

    def _role(self, key: str) -> int | None:
        value = self._settings.get(key)
        name = value.get("content") if isinstance(value, dict) else value
        if name is None:
            return None
        token = self._engine.token_of(name)
        if token is None:
            raise TokenizerError(
                f"{self._origin}/{SETTINGS_FILE}: {key} is '{name}', which {VOCABULARY_FILE} does not have",
                remedy="the two files belong to different tokenizers",
            )
        return token

    def _find_end(self) -> int:
        end = self._role("eos_token")
        if end is not None:
            return end
        for name in _KNOWN_ENDS:
            if name in self.special_ids:
                return self.special_ids[name]
        raise TokenizerError(
            f"{self._origin}: no end token: {SETTINGS_FILE} has no eos_token and {VOCABULARY_FILE} has none of {', '.join(_KNOWN_ENDS)}",
            remedy=f'add "eos_token": "..." to {SETTINGS_FILE}',
        )

    def _find_template(self) -> str | None:
        name, known = self._settings.get(TEMPLATE_KEY), template_names()
        if name is not None and name not in known:
            raise TokenizerError(
                f"{self._origin}/{SETTINGS_FILE}: {TEMPLATE_KEY} is '{name}', which is not known here{nearest(str(name), known)}",
                remedy=f"known chat formats: {', '.join(known)}",
            )
        return name


def load_tokenizer(folder: str | Path, *, template: str | None = None) -> Tokenizer:
    """The tokenizer in a folder; ``template`` chooses another chat format than the folder's, and is saved with it."""
    source = Path(folder)
    if not source.is_dir():
        raise TokenizerError(
            f"{source}: no such folder" if not source.exists() else f"{source}: a file, expected a folder with {VOCABULARY_FILE}"
        )
    files: dict[str, bytes] = {}
    for name in _KEPT_FILES:
        path = source / name
        if path.is_file():
            try:
                files[name] = path.read_bytes()
            except OSError as error:
                raise TokenizerError(f"{path}: cannot be read: {error.strerror}") from error
    if VOCABULARY_FILE not in files:
        raise TokenizerError(f"{source}: holds no {VOCABULARY_FILE}", remedy="give a folder that holds a tokenizer, or train one")
    if template is not None:
        chosen = template_settings(template)
        files[SETTINGS_FILE] = settings_file({**_parse_settings(files.get(SETTINGS_FILE), f"{source}/{SETTINGS_FILE}"), **chosen})
        files.pop("chat_template.jinja", None)
    return Tokenizer(files, origin=str(source))


def template_settings(name: str) -> dict[str, str]:
    """What ``tokenizer_config.json`` says of a chat format: its name for us, its Jinja program for others."""
    return {"chat_template": to_jinja(chat_template(name)), TEMPLATE_KEY: name}


def settings_file(settings: Mapping[str, Any]) -> bytes:
    """``tokenizer_config.json`` as it is written."""
    return (json.dumps(settings, ensure_ascii=False, indent=2) + "\n").encode()


def _rebuild(files: Mapping[str, bytes], origin: str) -> Tokenizer:
    return Tokenizer(files, origin=origin)


def _parse_settings(data: bytes | None, origin: str) -> dict[str, Any]:
    if data is None:
        return {}
    try:
        settings = json.loads(data)
    except ValueError as error:
        raise TokenizerError(f"{origin}: not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise TokenizerError(f"{origin}: expected an object, got {type(settings).__name__}")
    return settings


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text holds half a surrogate pair at character {error.start}, which is no Unicode text",
            remedy="decode its source with the right encoding",
        ) from error
    return text


def _messages(messages: Sequence[Message | Mapping[str, Any]]) -> list[Message]:
    return [value if isinstance(value, Message) else message_from_mapping(index, value) for index, value in enumerate(messages)]
