"""Messages to segments of ids: training and serving render with the same function.

Comes in: messages, tools, a :class:`ChatTemplate` and the tokenizer. Goes out: :class:`~beichen.text.messages.Rendered`, whose segments
know which ids are trained. Rules kept here: control tokens are inserted as ids and contents are encoded apart
from them as plain text; only an assistant's answer, its calls and its end token are trained; what a template
cannot say is an error naming the message, never left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beichen.errors import TemplateError
from beichen.text.chat_template import Atom, ChatTemplate, Slot, Special
from beichen.text.encoding_runs import Block, Encoder, encode_blocks
from beichen.text.messages import Message, Rendered, Segment, ToolCall
from beichen.util.json_kinds import json_kind

_THOUGHT_BEGIN, _THOUGHT_END = "<think>", "</think>"
_ROLES = ("system", "user", "assistant", "tool")


def render(
    template: ChatTemplate,
    encoder: Encoder,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = False,
    thinking: bool | None = None,
) -> Rendered:
    """The dialogue as ids. ``thinking=False`` asks for an answer without a thought, ``None`` leaves it to the model."""
    check_vocabulary(template, encoder)
    blocks = dialogue_blocks(template, messages, tools, add_generation_prompt, thinking)
    runs = encode_blocks(blocks, encoder, joined=template.joined, answer_apart=template.answer_apart)
    return Rendered(
        segments=tuple(
            Segment(ids=tuple(ids), weight=block.weight, role=block.role) for block, ids in zip(blocks, runs, strict=True) if ids
        )
    )


def check_vocabulary(template: ChatTemplate, encoder: Encoder) -> None:
    """Raises TemplateError when the vocabulary lacks a control token of the format."""
    missing = [name for name in template.specials if name not in encoder.special_ids]
    if missing:
        raise TemplateError(
            f"chat template '{template.name}' needs the control token(s) {', '.join(missing)}, which this tokenizer does not have",
            remedy="choose the template that belongs to the model",
        )


def render_text(
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = False,
    thinking: bool | None = None,
) -> str:
    """The same dialogue as text, for people to read; never encode it again."""
    blocks = _blocks(template, messages, tools, add_generation_prompt, thinking)
    return "".join(part.name if isinstance(part, Special) else part for block in blocks for part in block.parts)


def dialogue_blocks(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = False,
    thinking: bool | None = None,
) -> list[Block]:
    """The dialogue before encoding; neighbours of one role are one block, but for answers."""
    merged: list[Block] = []
    for block in _blocks(template, messages, tools, add_generation_prompt, thinking):
        if not block.parts:
            continue
        if merged and merged[-1].role == block.role and not (merged[-1].answer or block.answer):
            merged[-1] = Block((*merged[-1].parts, *block.parts), 0.0, block.role)
        else:
            merged.append(block)
    return merged


def _blocks(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool,
    thinking: bool | None,
) -> Iterator[Block]:
    _check(template, messages, tools, thinking)
    fill = _Filler(template)
    yield Block(fill(template.start), 0.0, "system")
    given = messages[0].content if messages[0].role == "system" else template.default_system
    yield Block(_opening(fill, given, tools), 0.0, "system")
    questions = [index for index, message in enumerate(messages) if message.role == "user"]
    for index, message in enumerate(messages):
        if message.role == "user":
            inside = index == questions[0] and given is not None and template.user_with_system is not None
            yield Block(
                fill(template.user_with_system if inside else template.user, content=message.content, system=given or ""), 0.0, "user"
            )
        elif message.role == "assistant":
            last = index == len(messages) - 1
            yield Block(fill(template.answer_prompt), 0.0, "assistant")
            if template.earlier_answer is not None and not (last and not add_generation_prompt):
                yield Block(fill(template.earlier_answer, content=message.content), 0.0, "assistant")
                continue
            answer = _answer(fill, message, since_question=index > max(questions, default=-1), last=last)
            yield Block(answer, 1.0 if message.weight is None else float(message.weight), "assistant", answer=True)
            yield Block(fill(template.answer_after), 0.0, "assistant")
        elif message.role == "tool":
            before = index > 0 and messages[index - 1].role == "tool"
            after = index + 1 < len(messages) and messages[index + 1].role == "tool"
            lead = fill(template.tool_separator if before else template.tool_first)
            tail = () if after else fill(template.tool_last)
            yield Block((*lead, *fill(template.tool, content=message.content), *tail), 0.0, "tool")
    if add_generation_prompt:
        yield Block(fill(template.answer_prompt), 0.0, "assistant")
        yield Block(fill(template.no_thought if thinking is False else ""), 0.0, "assistant")


def _opening(fill: _Filler, given: str | None, tools: Sequence[Mapping[str, Any]]) -> tuple[str | Special, ...]:
    """The system turn, if there is one."""
    template = fill.template
    if tools:
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        separated = "" if given is None else given + template.content_tools_separator
        return fill(template.system_with_tools, content=separated, tools=lines)
    if given is None or template.user_with_system is not None:
        return ()
    return fill(template.system, content=given.strip() if template.strip_system else given)


def _answer(fill: _Filler, message: Message, *, since_question: bool, last: bool) -> tuple[str | Special, ...]:
    """An answer with its thought and its calls."""
    if fill.template.thinking is None:
        return fill(fill.template.answer, content=message.content, calls=_calls(fill, message, message.content))
    thought, content = thought_and_answer(message)
    shown = since_question and (last or thought)
    content = content.lstrip("\n") if shown else content
    answer = fill(fill.template.answer, content=content, calls=_calls(fill, message, content))
    return (*fill(fill.template.thinking, thinking=thought.strip("\n")), *answer) if shown else answer


def thought_and_answer(message: Message) -> tuple[str, str]:
    """What an assistant thought and what it then said; the thought may still stand in front of the content."""
    if message.thinking is not None:
        return message.thinking, message.content
    before, closed, after = message.content.rpartition(_THOUGHT_END)
    if not closed:
        return "", message.content
    thought = before.partition(_THOUGHT_END)[0].rstrip("\n").rpartition(_THOUGHT_BEGIN)[2]
    return thought.lstrip("\n"), after.lstrip("\n")


class _Filler:
    """Puts values into the literals of one template."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template

    def __call__(self, literal: str | None, **values: str | tuple[str | Special, ...]) -> tuple[str | Special, ...]:
        parts: list[str | Special] = []
        for atom in self.template.atoms(literal or ""):
            parts.extend(self._value(atom, values))
        return tuple(parts)

    def _value(self, atom: Atom, values: Mapping[str, str | tuple[str | Special, ...]]) -> tuple[str | Special, ...]:
        if not isinstance(atom, Slot):
            return (atom,)
        value = values.get(atom.name, "")
        if isinstance(value, tuple):
            return value
        return (value.strip() if self.template.strip_content and atom.name == "content" else value,)


def _calls(fill: _Filler, message: Message, content: str) -> tuple[str | Special, ...]:
    parts: tuple[str | Special, ...] = ()
    for number, call in enumerate(message.tool_calls):
        if number:
            parts += fill(fill.template.call_separator)
        elif content:
            parts += fill(fill.template.content_call_separator)
        parts += fill(
            fill.template.call, name=json.dumps(call.name, ensure_ascii=False), arguments=json.dumps(call.arguments, ensure_ascii=False)
        )
    return parts


def _check(template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], thinking: bool | None) -> None:
    if not messages:
        raise TemplateError("there are no messages to render", remedy="give at least one user message")
    if tools and template.system_with_tools is None:
        raise TemplateError(
            f"chat template '{template.name}' has no place for tools",
            remedy="leave tools out, or choose a template that has",
            field="tools",
        )
    if thinking is not None and template.thinking is None:
        raise TemplateError(f"chat template '{template.name}' has no thinking to switch", remedy="leave thinking out", field="thinking")
    for index, message in enumerate(messages):
        fault = _fault(template, messages, index, message)
        if fault:
            raise TemplateError(f"message {index} (role '{message.role}'): {fault}")


def _fault(template: ChatTemplate, messages: Sequence[Message], index: int, message: Message) -> str | None:
    if message.role not in _ROLES:
        return f"unknown role; known: {', '.join(_ROLES)}"
    if message.role == "system" and index:
        return "a system message must come first"
    if message.role == "system" and not template.takes_system:
        return f"chat template '{template.name}' has no system turn"
    if message.tool_calls and message.role != "assistant":
        return "only the assistant calls tools"
    if message.tool_calls and template.call is None:
        return f"chat template '{template.name}' has no tool calls"
    if message.role == "tool" and template.tool is None:
        return f"chat template '{template.name}' has no tool results"
    if message.role == "tool" and not (index and (messages[index - 1].role == "tool" or messages[index - 1].tool_calls)):
        return "a tool result must follow the assistant's call"
    if message.weight is not None and not (0 <= message.weight < math.inf and (message.role == "assistant" or not message.weight)):
        return f"weight {message.weight}: expected 0 or above for an answer; all other turns are never trained"
    return None


_MESSAGE = 'a message is written {"role": "user", "content": "..."}'


def message_from_mapping(index: int, value: Any) -> Message:
    """A message as clients write it (``{"role": ..., "content": ..., "tool_calls": [...]}``), arguments decoded if they are text."""
    if not isinstance(value, Mapping):
        raise TemplateError(f"message {index} is {json_kind(value)}, expected role and content", remedy=_MESSAGE)
    if not {"content", "tool_calls", "reasoning_content"} & set(value):  # a stated null is what clients write for an empty answer
        raise TemplateError(f"message {index} has no content", remedy=_MESSAGE)
    role: Any = {"bot": "assistant"}.get(value.get("role", ""), value.get("role", ""))
    content = value.get("content")
    calls = tuple(_tool_call(index, call) for call in value.get("tool_calls") or ())
    if content is not None and not isinstance(content, str):
        raise TemplateError(f"message {index}: content is {json_kind(content)}, expected text")
    return Message(role=role, content=content or "", tool_calls=calls, weight=value.get("weight"), thinking=value.get("reasoning_content"))


def _tool_call(index: int, call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise TemplateError(f"message {index}: the arguments of the call '{function.get('name')}' are not JSON: {error}") from error
    if not isinstance(function.get("name"), str) or not isinstance(arguments, Mapping):
        raise TemplateError(
            f"message {index}: a tool call needs a name and an object of arguments, got {json.dumps(call, ensure_ascii=False)}"
        )
    return ToolCall(name=function["name"], arguments=arguments)
