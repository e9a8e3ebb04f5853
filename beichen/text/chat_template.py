"""Chat formats as data: ``templates/<name>.yaml`` becomes a :class:`ChatTemplate`.

A format is a handful of literals, one per kind of turn. ``{{slots}}`` carry values; the names listed under ``specials`` are
control tokens wherever the literal writes them, and only there: a value is never searched for them.
Adding a format is adding one file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from beichen.errors import TemplateError, nearest


@dataclass(frozen=True)
class Special:
    """A control token, by name."""

    name: str


@dataclass(frozen=True)
class Slot:
    """A place for a value."""

    name: str


Atom = str | Special | Slot
_SLOTS_OF = {
    "user": ("content",),
    "user_with_system": ("content", "system"),
    "answer": ("content", "calls"),
    "earlier_answer": ("content",),
    "system": ("content",),
    "system_with_tools": ("content", "tools"),
    "thinking": ("thinking",),
    "call": ("name", "arguments"),
    "tool": ("content",),
}  # the values that each literal is given; no other has any
_SLOTS = tuple(dict.fromkeys(name for names in _SLOTS_OF.values() for name in names))
_VALUES = ("default_system", "specials", "optional_specials", "stop", "recognised_by", "special_cases")  # keys that are no literals


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """One chat format. Every literal is optional but those of a question and an answer."""

    name: str
    specials: Sequence[str]
    stop: Sequence[str]  # an answer ends at any of these
    user: str
    answer_prompt: str  # what comes before an answer; given to the model, never trained
    answer: str  # what the model has to emit, its end token included; trained
    answer_after: str = ""
    optional_specials: Sequence[str] = ()  # control tokens where the vocabulary has them, ordinary text elsewhere
    start: str = ""
    default_system: str | None = None  # None: no system turn unless one is given
    system: str | None = None
    user_with_system: str | None = None  # the first question, where the system text stands inside it
    system_with_tools: str | None = None
    content_tools_separator: str = ""  # between a system text, if there is one, and the tools
    earlier_answer: str | None = None  # an answer that is not the last turn, where it ends otherwise; never trained
    thinking: str | None = None  # what an answer thought first; kept since the last question, left out of turns before it
    no_thought: str = ""  # ends a prompt that asks for an answer without thinking
    call: str | None = None
    call_separator: str = ""
    content_call_separator: str = ""  # between the text of an answer and its first call
    tool_first: str = ""  # before the first of a run of tool results
    tool: str | None = None
    tool_separator: str = ""
    tool_last: str = ""
    strip_content: bool = False
    strip_system: bool = False
    joined: bool = False  # text between control tokens is encoded in one go, across turns
    answer_apart: bool = False  # an answer begins a text of its own, even so: the published training encodes it by itself
    recognised_by: Sequence[str] = ()  # control tokens that only the vocabularies of this format have
    special_cases: Sequence[str] = ()  # formats that a family's default gives way to, where vocabulary and folder say so

    @property
    def takes_system(self) -> bool:
        """Whether there is a place for a system message."""
        return self.system is not None or self.user_with_system is not None

    def speaks(self, vocabulary: Collection[str]) -> bool:
        """Whether a vocabulary with these control tokens is one of this format."""
        return all(name in vocabulary for name in (*self.specials, *self.recognised_by))

    def atoms(self, literal: str) -> tuple[Atom, ...]:
        """A literal of this template as text, control tokens and slots."""
        return _atoms(literal, (*self.specials, *self.optional_specials))


@lru_cache(maxsize=1024)
def _atoms(literal: str, specials: tuple[str, ...]) -> tuple[Atom, ...]:
    names = "|".join(re.escape(name) for name in sorted(specials, key=len, reverse=True))
    found: list[Atom] = []
    for part in re.split(rf"(\{{\{{(?:{'|'.join(_SLOTS)})\}}\}}|{names})", literal):
        if part in specials:
            found.append(Special(part))
        elif part.startswith("{{") and part[2:-2] in _SLOTS:
            found.append(Slot(part[2:-2]))
        elif part:
            found.append(part)
    return tuple(found)


def template_names() -> list[str]:
    """Every chat format that this package knows."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in files(__package__).joinpath("templates").iterdir() if entry.name.endswith(".yaml")
    )


@lru_cache(maxsize=64)
def chat_template(name: str) -> ChatTemplate:
    """The format of that name; an unknown one is an error that lists the known."""
    known = template_names()
    if name not in known:
        raise TemplateError(f"no chat template is called '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return template_from_dict(name, _read(name))


def template_from_dict(name: str, data: Mapping[str, Any]) -> ChatTemplate:
    """A format from its data; a key that is unknown or missing, or a slot that has no value where it stands, is an error that names it."""
    known = [field.name for field in fields(ChatTemplate) if field.name != "name"]
    for key in data:
        if key not in known:
            raise TemplateError(f"chat template '{name}': unknown key '{key}'{nearest(key, known)}")
    for key in ("specials", "stop", "user", "answer_prompt", "answer"):
        if key not in data:
            raise TemplateError(f"chat template '{name}': '{key}' is missing")
    for key, literal in data.items():
        if isinstance(literal, str) and key not in _VALUES:
            _check_slots(name, key, literal)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return ChatTemplate(name=name, **values)


def _check_slots(name: str, key: str, literal: str) -> None:
    """Raises TemplateError for a slot that has no value in this literal."""
    there = _SLOTS_OF.get(key, ())
    for slot in re.findall(r"\{\{(\s*\w+\s*)\}\}", literal):
        if slot not in there:
            raise TemplateError(
                f"chat template '{name}', '{key}': {{{{{slot}}}}} has no value there{nearest(slot, there)}",
                remedy=f"known there: {', '.join(f'{{{{{one}}}}}' for one in there) or 'no slot, only text'}",
            )


def _read(name: str) -> dict[str, Any]:
    data = yaml.safe_load(files(__package__).joinpath("templates", f"{name}.yaml").read_text(encoding="utf-8"))
    base = data.pop("extends", None)
    if base is None:
        return data
    inherited = {key: value for key, value in _read(base).items() if key not in ("recognised_by", "special_cases")}
    return {**inherited, **data}
