"""``Tokenizer``: text to ids and back, control tokens by name, dialogues to ids; and ``read_tokenizer(folder)``.

Comes in: a folder as published (``tokenizer.json``, ``tokenizer.model`` or ``*.tiktoken``, with the settings beside it). Goes out:
the one type that data, training, inference and evaluation use. Rules kept here: text never becomes a control
token unless ``allow_special=True``; decoding is exact bytes; a saved folder is the loaded one, byte for byte.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from beichen.errors import TemplateError, TokenizerError, nearest
from beichen.text.chat import message_from_mapping, render, render_text
from beichen.text.chat_jinja import to_jinja
from beichen.text.chat_template import ChatTemplate, chat_template, template_names
from beichen.text.decoding import TextAssembler
from beichen.text.encoding_runs import Bounded, Encoder, Permissive
from beichen.text.engine import Engine
from beichen.text.jinja_template import JINJA, JinjaTemplate
from beichen.text.messages import Message, Rendered
from beichen.text.published_decoding import decode_as_published
from beichen.text.template_choice import choose_template
from beichen.text.vocabulary_folder import (
    JINJA_FILE,
    KNOWN_NAMES,
    SETTINGS_FILE,
    Settings,
    make_engine,
    object_file,
    read_files,
    vocabulary_name,
)
from beichen.util.files import write_atomically

TEMPLATE_KEY = "beichen_chat_template"  # which of our chat formats the model was trained with
_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")

Messages = Sequence[Message | Mapping[str, Any]]


class Tokenizer:
    """A vocabulary with its control tokens and its chat format."""

    def __init__(self, files: Mapping[str, bytes], *, origin: str, default_template: str | None = None) -> None:
        """``files``: the published files by name; ``origin``: the folder, for messages; ``default_template``: that of the family."""
        self._files, self._origin, self._default_template = dict(files), origin, default_template
        self._settings = Settings(self._files, origin)
        self.engine: Engine = make_engine(self._files, self._settings)
        self.vocab_size: int = self.engine.vocab_size
        self.special_ids: Mapping[str, int] = dict(self.engine.control_ids)
        self.end_id: int = self._find_end()
        self.start_id: int | None = self._role("bos_token")
        pad = self._role("pad_token")
        self.pad_id: int = self.end_id if pad is None else pad
        self._template = self._find_template()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._files, self._origin, self._default_template)

    def __len__(self) -> int:
        return self.vocab_size

    # -- text and ids

    def encode(self, text: str, *, allow_special: bool = False, continues: bool = False) -> list[int]:
        """Ids of a text. Names of control tokens in it are ordinary text, unless ``allow_special``; ``continues``: the text goes on after
        other text, so that vocabularies which put a space before every text put none."""
        return self.engine.encode(_text(text), allow_special=allow_special, continues=continues)

    def least_tokens(self, text: str) -> int:
        """How many ids a text surely has at least, found without encoding it; 0 where nothing is certain."""
        return self.engine.least_tokens(_text(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text, on all cores."""
        return self.engine.encode_batch([_text(text) for text in texts])

    def decode(self, ids: Iterable[int], *, skip_special: bool = True, shown: Collection[str] = ()) -> str:
        """Text of ids; bytes that are no UTF-8 become U+FFFD. ``shown``: control tokens that are not skipped, by name."""
        assembler = TextAssembler(self.engine, skip_special=skip_special, shown=shown)
        return "".join([assembler.push(self._known(token)) for token in ids]) + assembler.finish()

    def decode_as_published(self, ids: Iterable[int], *, skip_special: bool = True, spaces: bool | None = None) -> str:
        """The text that the published code gives for ids, its misplaced spaces included; for comparisons only."""
        return decode_as_published(self.engine, self._settings, [self._known(token) for token in ids], skip_special, spaces)

    def _known(self, token: int) -> int:
        if not 0 <= token < self.vocab_size:
            raise TokenizerError(
                f"id {token} is outside this vocabulary (0 to {self.vocab_size - 1})", remedy="is this the tokenizer of that model?"
            )
        return token

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes that one id stands for; a control token's are its name."""
        return self.engine.pieces[self._known(token)]

    def piece(self, token: int) -> str:
        """The piece as the file spells it, for people who look at pieces."""
        return self.engine.piece_name(self._known(token))

    @property
    def strips_first_space(self) -> bool:
        """Whether the text of a run of ids begins with a space that was not in the encoded text (``▁`` vocabularies)."""
        return self.engine.leading_space_mark

    @property
    def inline_ids(self) -> Collection[int]:
        """Control tokens that the published code reads inside a run of text."""
        return self.engine.inline_ids

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary file: ids made by two tokenizers agree when this does."""
        name = vocabulary_name(self._files)
        assert name is not None
        return hashlib.sha256(self._files[name]).hexdigest()

    # -- dialogues

    @property
    def template(self) -> str | None:
        """Name of the chat format, ``jinja`` for the folder's own program, ``None`` when there is neither."""
        if self._template is None:
            return None
        return self._template.name if isinstance(self._template, ChatTemplate) else JINJA

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids at which an answer ends."""
        stops = self._template.stop if isinstance(self._template, ChatTemplate) else ()
        return tuple(dict.fromkeys([self.end_id, *(self.special_ids[name] for name in stops if name in self.special_ids)]))

    def render(
        self,
        messages: Messages,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
        *,
        thinking: bool | None = None,
        allow_special: bool = False,
        longest: int | None = None,
    ) -> Rendered:
        """Messages (ours, or dicts as clients write them) as ids and loss mask. ``thinking=False`` asks for an answer without a thought;
        ``allow_special`` lets names of control tokens inside contents act, as the published programs do: never for text of others.
        ``longest``: raise LengthError, before much is encoded, where there are surely more ids."""
        encoder: Encoder = Permissive(self) if allow_special else self
        encoder = encoder if longest is None else Bounded(encoder, self.least_tokens, longest)
        options: dict[str, Any] = {"tools": tools or (), "add_generation_prompt": add_generation_prompt, "thinking": thinking}
        template = self.chat_format
        if isinstance(template, JinjaTemplate):
            return template.render(encoder, _messages(messages), **options)
        return render(template, encoder, _messages(messages), **options)

    def render_text(
        self,
        messages: Messages,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
        *,
        thinking: bool | None = None,
    ) -> str:
        """The same as text, for people to read."""
        options: dict[str, Any] = {"tools": tools or (), "add_generation_prompt": add_generation_prompt, "thinking": thinking}
        template = self.chat_format
        if isinstance(template, JinjaTemplate):
            return template.render_text(self.special_ids, _messages(messages), **options)
        return render_text(template, _messages(messages), **options)

    @property
    def chat_format(self) -> ChatTemplate | JinjaTemplate:
        """The chat format; a folder without any is an error that lists the known."""
        if self._template is None:
            raise TemplateError(
                f"{self._origin}: {SETTINGS_FILE} names no chat format that is known here",
                remedy=f"choose one by name when loading: {', '.join(template_names())}",
            )
        return self._template

    def with_template(self, name: str) -> Tokenizer:
        """The same vocabulary with another chat format, saved with it; ``jinja`` is the folder's own program."""
        changed = copy.copy(self)
        files, settings = dict(self._files), dict(self._settings.config)
        if name == JINJA:
            if self._settings.jinja(self._files) is None:
                raise TemplateError(f"{self._origin}: holds no Jinja program", remedy=f"choose one of: {', '.join(template_names())}")
            changed._default_template = None
            if settings.pop(TEMPLATE_KEY, None) is not None:
                files[SETTINGS_FILE] = object_file(settings)
        else:
            files[SETTINGS_FILE] = object_file({**settings, **template_settings(name)})
            if JINJA_FILE in files:  # others read it before the settings
                files[JINJA_FILE] = to_jinja(chat_template(name)).encode()
        changed._files, changed._settings = files, Settings(files, self._origin)
        changed._template = changed._find_template()
        return changed

    # -- folders

    def file(self, name: str) -> bytes | None:
        """One of the tokenizer's files, byte for byte; ``None`` where it has none of that name."""
        return self._files.get(name)

    def with_files(self, files: Mapping[str, bytes]) -> Tokenizer:
        """The tokenizer with some of its files replaced or new."""
        return Tokenizer({**self._files, **files}, origin=self._origin, default_template=self._default_template)

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer's files, each whole or not at all."""
        target = Path(folder)
        for name, data in self._files.items():
            write_atomically(target / name, data)

    def _role(self, key: str) -> int | None:
        stated, name = self._settings.role(key)
        if not stated:
            return next((self.special_ids[name] for name in KNOWN_NAMES.get(key, ()) if name in self.special_ids), None)
        if name is None:
            return None
        token = self.engine.token_of(name)
        if token is None:
            raise TokenizerError(
                f"{self._origin}/{SETTINGS_FILE}: {key} is '{name}', which {vocabulary_name(self._files)} does not have",
                remedy="the two files belong to different tokenizers",
            )
        return token

    def _find_end(self) -> int:
        end = self._role("eos_token")
        if end is None:
            end = next((self.special_ids[name] for name in KNOWN_NAMES["eos_token"] if name in self.special_ids), None)
        if end is None:
            raise TokenizerError(
                f"{self._origin}: no end token: {SETTINGS_FILE} has no eos_token and {vocabulary_name(self._files)} has none of "
                f"{', '.join(KNOWN_NAMES['eos_token'])}",
                remedy=f'add "eos_token": "..." to {SETTINGS_FILE}',
            )
        return end

    def _find_template(self) -> ChatTemplate | JinjaTemplate | None:
        name, known = self._settings.config.get(TEMPLATE_KEY), template_names()
        if name is not None and name not in known:
            raise TokenizerError(
                f"{self._origin}/{SETTINGS_FILE}: {TEMPLATE_KEY} is '{name}', which is not known here{nearest(str(name), known)}",
                remedy=f"known chat formats: {', '.join(known)}",
            )
        program = None
        source = self._settings.jinja(self._files)
        if name is None and source is not None:
            roles = {key: text for key in _ROLES for text in [self._settings.role(key)[1]] if text}
            program = JinjaTemplate(source, roles=roles, origin=self._origin)
        if name is None:
            name = choose_template(self._default_template, self.special_ids, program)
        return program if name == JINJA or name is None else chat_template(name)


def read_tokenizer(folder: str | Path, *, template: str | None = None, default_template: str | None = None) -> Tokenizer:
    """The tokenizer in a folder. ``template`` chooses another chat format than the folder's, and is saved with it; ``jinja`` is the
    folder's own program. ``default_template``: the format of the model's family, for folders that do not name one of ours."""
    source = Path(folder)
    if not source.is_dir():
        raise TokenizerError(
            f"{source}: no such folder" if not source.exists() else f"{source}: a file, expected a folder with a tokenizer"
        )
    tokenizer = Tokenizer(read_files(source), origin=str(source), default_template=default_template)
    return tokenizer if template is None else tokenizer.with_template(template)


def template_settings(name: str) -> dict[str, str]:
    """What ``tokenizer_config.json`` says of a chat format: its name for us, its Jinja program for others."""
    return {"chat_template": to_jinja(chat_template(name)), TEMPLATE_KEY: name}


def _rebuild(files: Mapping[str, bytes], origin: str, default_template: str | None) -> Tokenizer:
    return Tokenizer(files, origin=origin, default_template=default_template)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text holds half a surrogate pair at character {error.start}, which is no Unicode text",
            remedy="decode its source with the right encoding",
        ) from error
    return text


def _messages(messages: Messages) -> list[Message]:
    if isinstance(messages, (str, Mapping, Message)):
        raise TemplateError(f"messages are a list, got {type(messages).__name__}", remedy='[{"role": "user", "content": "..."}]')
    return [value if isinstance(value, Message) else message_from_mapping(index, value) for index, value in enumerate(messages)]
