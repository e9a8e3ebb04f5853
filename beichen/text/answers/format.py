"""How a model writes thoughts and tool calls, read off its chat template: nothing is said twice.

Comes in: a :class:`ChatTemplate`, or the Jinja program of a folder, which is asked to render a call. Goes out: :class:`AnswerFormat`.
Rule: a call is one JSON object between two tags, or between one and the answer's end; a template that writes calls otherwise is one whose
answers are read as prose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from beichen.errors import TemplateError
from beichen.text.chat_template import ChatTemplate
from beichen.text.jinja_template import JinjaTemplate
from beichen.text.messages import Message, ToolCall

_SAID, _NAME, _KEY = "prose-before", "name-of-call", "key-of-call"
_CALL = re.compile(r"(?P<before>.*?)(?P<open>\S+)\s*(?P<object>\{.*\})\s*(?P<close>\S+)", re.DOTALL)
_THOUGHT = ("<think>", "</think>")


@dataclass(frozen=True, kw_only=True)
class CallFormat:
    """``open`` and ``close`` stand around an object with two keys."""

    open: str
    close: str
    name: str = "name"  # the key of the function's name
    arguments: str = "arguments"
    separator: str = ""  # between prose and the first call


@dataclass(frozen=True, kw_only=True)
class AnswerFormat:
    """What may stand in an answer besides prose. ``thought``: the tags around a thought, which comes first."""

    calls: CallFormat | None = None
    thought: tuple[str, str] | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """Control tokens that must be shown in an answer's text, for what they enclose is found by them."""
        calls = () if self.calls is None else (self.calls.open, self.calls.close)
        return (*(self.thought or ()), *calls)

    def begins_in_thought(self, prompt: str) -> bool:
        """Whether a prompt, as text, ends by opening the thought that the answer goes on with."""
        return self.thought is not None and prompt.rstrip().endswith(self.thought[0])


def answer_format(template: ChatTemplate | JinjaTemplate, vocabulary: Iterable[str] = ()) -> AnswerFormat:
    """The format of the answers that a template teaches. ``vocabulary``: names of control tokens, for Jinja programs."""
    if isinstance(template, JinjaTemplate):
        return _of_program(template, vocabulary)
    return _of_template(template)


@lru_cache(maxsize=64)
def _of_template(template: ChatTemplate) -> AnswerFormat:
    thought = None
    if template.thinking is not None:
        before, _, after = template.thinking.partition("{{thinking}}")
        thought = before.strip(), after.strip()
    if template.call is None:
        return AnswerFormat(thought=thought)
    call = template.call.replace("{{name}}", json.dumps(_NAME)).replace("{{arguments}}", json.dumps({_KEY: 1}))
    call, end = template.content_call_separator + call, template.answer.partition("{{calls}}")[2]
    return AnswerFormat(calls=_call_format(call) or _call_format(call + end), thought=thought)


def _of_program(program: JinjaTemplate, vocabulary: Iterable[str]) -> AnswerFormat:
    question = Message(role="user", content="question")
    call = Message(role="assistant", content=_SAID, tool_calls=[ToolCall(name=_NAME, arguments={_KEY: 1})])
    try:
        text = program.render_text(vocabulary, [question, call])
    except TemplateError:  # a program without calls may refuse them
        text = ""
    thought = _THOUGHT if _THOUGHT[1] in program.source else None
    return AnswerFormat(calls=_call_format(text.partition(_SAID)[2]), thought=thought)


def _call_format(text: str) -> CallFormat | None:
    """The format in which the probe's call stands at the beginning of a text."""
    found = _CALL.match(text)
    try:
        fields = json.loads(found["object"]) if found else None
    except ValueError:
        return None
    if found is None or not isinstance(fields, dict) or found["before"].strip():
        return None
    keys = {json.dumps(value): key for key, value in fields.items()}
    name, arguments = keys.get(json.dumps(_NAME)), keys.get(json.dumps({_KEY: 1}))
    if name is None or arguments is None:
        return None
    return CallFormat(open=found["open"], close=_tag(found["close"]), name=name, arguments=arguments, separator=found["before"])


def _tag(text: str) -> str:
    """The first tag of a run of them: a call's end may stand directly before the end of the turn."""
    return text[: text.find(">") + 1] or text
