"""Chat templates that come with a checkpoint as Jinja programs, without trusting what people typed.

A Jinja program gives text, and text cannot tell a control token from a user's words. So each text that the program itself wrote (its
literals, the names of roles and of ``bos_token`` and the like) comes out spelled in letters that no value contains. Only a
name spelled wholly so becomes a control token. Whatever a program does to a value (upper case, replacing, joining,
cutting), it stays a value: plain text. What it does to its own text may take the marks away, and then that is
plain text too; a control token half of its own letters and half of a value's is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any

from beichen.errors import TemplateError
from beichen.text.chat_template import Special
from beichen.text.encoding_runs import Block, Encoder, encode_blocks
from beichen.text.messages import Message, Rendered, Segment

JINJA = "jinja"  # the name that chooses a folder's own program


Span = tuple[int, int, float]  # where an answer stands, and its weight in the loss


class Marks:
    """Letters of control tokens respelled in letters (of the private planes) that stand nowhere in ``taken``."""

    def __init__(self, names: Iterable[str], taken: set[str]) -> None:
        names = sorted(names, key=len, reverse=True)
        letters = sorted({letter for name in names for letter in name if not letter.isspace()})
        free = (chr(code) for code in range(0xF0000, 0x10FFFE) if code & 0xFFFE != 0xFFFE and chr(code) not in taken)
        own = list(islice(free, len(letters) + 2))
        self._spell = str.maketrans(dict(zip(letters, own, strict=False)))
        self._read = str.maketrans(dict(zip(own, letters, strict=False)))
        self.begin, self.end = own[-2:]
        self.names = {self.mark(name): name for name in names}
        self.marked = re.compile("|".join(map(re.escape, self.names)) or r"(?!)")
        self.plain = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def mark(self, text: str) -> str:
        return text.translate(self._spell)

    def unmark(self, text: str) -> str:
        return text.translate(self._read)


class Trusted(str):
    """A text of the program's own: compares and looks up as what it says, comes out marked."""

    marks: Marks
    marked: str

    def __new__(cls, text: str, marks: Marks, marked: str | None = None) -> Trusted:
        made = super().__new__(cls, text)
        made.marks, made.marked = marks, marks.mark(text) if marked is None else marked
        return made

    def __str__(self) -> str:
        return self.marked

    def __add__(self, other: str) -> Trusted:
        return Trusted(super().__add__(other), self.marks, self.marked + _shown(other))

    def __radd__(self, other: str) -> Trusted:
        return Trusted(other + str.__str__(self), self.marks, other + self.marked)

    def strip(self, letters: str | None = None, /) -> Trusted:
        return Trusted(super().strip(letters), self.marks, self.marked.strip(self._both(letters)))

    def lstrip(self, letters: str | None = None, /) -> Trusted:
        return Trusted(super().lstrip(letters), self.marks, self.marked.lstrip(self._both(letters)))

    def rstrip(self, letters: str | None = None, /) -> Trusted:
        return Trusted(super().rstrip(letters), self.marks, self.marked.rstrip(self._both(letters)))

    def _both(self, letters: str | None) -> str | None:
        return None if letters is None else letters + self.marks.mark(letters)


def _shown(text: str) -> str:
    return text.marked if isinstance(text, Trusted) else text


class JinjaTemplate:
    """One program with the names of the tokens that it may use."""

    def __init__(self, source: str, *, roles: Mapping[str, str], origin: str) -> None:
        """``roles``: ``bos_token`` and the like, by the names that programs know."""
        self.source, self.roles, self.origin = source, dict(roles), origin

    @cached_property
    def _program(self) -> Any:
        from beichen.text.jinja_sandbox import Program  # late: most folders need no Jinja

        with self._naming_faults():
            return Program(self.source, {"tojson": _to_json})

    def render(
        self,
        encoder: Encoder,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
        thinking: bool | None = None,
    ) -> Rendered:
        """The dialogue as ids; answers are trained where the program shows where they begin."""
        values = list(_strings([[_values(message) for message in messages], list(tools)]))
        marks = Marks(encoder.special_ids, set("".join([self.source, *self.roles.values(), *values])))

        def run(count: int, prompt: bool) -> str:
            return self._run(marks, messages[:count], tools, prompt, thinking)

        text = run(len(messages), add_generation_prompt)
        if self._program.has_answers:
            text, spans = _tagged(text, marks, messages, self.origin)
        else:
            spans = [] if add_generation_prompt else list(self._answers(text, messages, marks, run))
        blocks = list(self._blocks(text, spans, marks, values))
        ids = encode_blocks(blocks, encoder, joined=False)
        return Rendered(
            segments=tuple(
                Segment(ids=tuple(one), weight=block.weight, role=block.role) for block, one in zip(blocks, ids, strict=True) if one
            )
        )

    def render_text(
        self,
        names: Iterable[str],
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
        thinking: bool | None = None,
    ) -> str:
        """The same dialogue as text, for people to read; ``names``: the control tokens."""
        values = _strings([[_values(message) for message in messages], list(tools)])
        marks = Marks(names, set("".join([self.source, *self.roles.values(), *values])))
        text = self._run(marks, messages, tools, add_generation_prompt, thinking)
        return marks.unmark(text.replace(marks.begin, "").replace(marks.end, ""))

    def _run(
        self, marks: Marks, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], prompt: bool, thinking: bool | None
    ) -> str:
        from beichen.text.jinja_sandbox import ANSWER_BEGIN, ANSWER_END, LITERAL

        variables: dict[str, Any] = {f"{LITERAL}{place}": Trusted(text, marks) for place, text in enumerate(self._program.literals)}
        variables |= {name: Trusted(text, marks) for name, text in self.roles.items()}
        variables |= {ANSWER_BEGIN: marks.begin, ANSWER_END: marks.end}
        variables |= {"raise_exception": _refuse, "strftime_now": _now}
        variables |= {"messages": [{**_values(message), "role": Trusted(message.role, marks)} for message in messages]}
        variables |= {"tools": list(tools) or None, "add_generation_prompt": prompt}
        if thinking is not None:
            variables["enable_thinking"] = thinking
        with self._naming_faults():
            return str(self._program.run(variables))

    def _naming_faults(self) -> _FaultNames:
        return _FaultNames(self.origin)

    def _answers(self, text: str, messages: Sequence[Message], marks: Marks, run: Any) -> Iterator[Span]:
        """Where the answers stand: what a dialogue up to an answer adds to the prompt for it."""
        for place, message in enumerate(messages):
            if message.role != "assistant":
                continue
            prompt, answered = run(place, True) if place else "", run(place + 1, False)
            if not (text.startswith(prompt) and answered.startswith(prompt) and text.startswith(answered.rstrip())):
                if message.weight == 0:
                    continue  # nothing has to be known of an answer that is not learnt
                raise TemplateError(
                    f"{self.origin}: message {place}: the template writes this answer otherwise than it asks for it, "
                    "so that nothing says which tokens to learn",
                    remedy="train with one of our own chat formats, by name",
                )
            ends = [match.end() for match in marks.marked.finditer(answered, len(prompt))]
            yield len(prompt), ends[-1] if ends else len(answered.rstrip()), _weight(message)

    def _blocks(self, text: str, spans: Sequence[Span], marks: Marks, values: Sequence[str]) -> Iterator[Block]:
        place = 0
        for begin, end, weight in spans:
            yield Block(self._parts(text[place:begin], marks, values), 0.0, "user")
            yield Block(self._parts(text[begin:end], marks, values), weight, "assistant")
            place = end
        yield Block(self._parts(text[place:], marks, values), 0.0, "user")

    def _parts(self, text: str, marks: Marks, values: Sequence[str]) -> tuple[str | Special, ...]:
        parts: list[str | Special] = []
        place = 0
        for match in marks.marked.finditer(text):
            parts += [self._checked(text[place : match.start()], marks, values), Special(marks.names[match.group()])]
            place = match.end()
        parts.append(self._checked(text[place:], marks, values))
        return tuple(part for part in parts if part)

    def _checked(self, text: str, marks: Marks, values: Sequence[str]) -> str:
        """Plain text; a control token's name in it has to be someone's words, not a piece of work of the program."""
        plain = marks.unmark(text)
        for match in marks.plain.finditer(plain):
            written = text[match.start() : match.end()]
            if written != match.group() or not any(written in value for value in values):
                raise TemplateError(
                    f"{self.origin}: the template makes the name of the control token {match.group()} out of several parts, "
                    "so that nobody can tell whether it is one",
                    remedy="choose one of our own chat formats, by name",
                )
        return plain


class _FaultNames:
    """Turns whatever a program raises into one error that names it."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, TemplateError) or not isinstance(error, Exception):
            return
        if isinstance(error, _RefusedError):
            raise TemplateError(f"{self._origin}: the chat template refuses this dialogue: {error}") from error
        raise TemplateError(
            f"{self._origin}: the chat template cannot be run: {type(error).__name__}: {error}",
            remedy="choose one of our own chat formats, by name",
        ) from error


class _RefusedError(Exception):
    """What ``raise_exception`` raises."""


def _refuse(reason: object) -> None:
    raise _RefusedError(str.__str__(reason) if isinstance(reason, str) else repr(reason))


def _now(form: str) -> str:
    return datetime.now().strftime(str.__str__(form))


def _weight(message: Message) -> float:
    return 1.0 if message.weight is None else float(message.weight)


def _tagged(text: str, marks: Marks, messages: Sequence[Message], origin: str) -> tuple[str, list[Span]]:
    """The text without the marks of answers, and where they stood."""
    places: list[tuple[int, int]] = []
    clean = ""
    for number, part in enumerate(re.split(f"[{marks.begin}{marks.end}]", text)):
        if number % 2:
            places.append((len(clean), len(clean) + len(part)))
        clean += part
    weights = [_weight(message) for message in messages if message.role == "assistant"]
    if set(weights) <= {1.0}:
        weights = [1.0] * len(places)
    if len(weights) != len(places):
        raise TemplateError(
            f"{origin}: the template marks {len(places)} answers, the dialogue has {len(weights)} with weights of their own",
            remedy="train with one of our own chat formats, by name",
        )
    return clean, [(begin, end, weight) for (begin, end), weight in zip(places, weights, strict=True)]


def _values(message: Message) -> dict[str, Any]:
    """A message as programs know it."""
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        value["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}} for call in message.tool_calls
        ]
    if message.thinking is not None:
        value["reasoning_content"] = message.thinking
    return value


def _strings(value: Any) -> Iterator[str]:
    """Every text inside, keys too, also as JSON spells it."""
    if isinstance(value, str):
        yield value
        yield json.dumps(value, ensure_ascii=False)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(key)
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
