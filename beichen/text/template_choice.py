"""Which chat format a folder gets when nobody names one.

Comes in: the default of the model's family, the control tokens of the vocabulary, and the Jinja program of the folder, if any. Goes
out: a name. Rule: the folder's program is what its publisher meant, so a format of ours stands in for it only where both write the
same prompts; without a program the vocabulary decides among the formats of the family.
"""

from __future__ import annotations

from collections.abc import Collection

from beichen.errors import TemplateError
from beichen.text.chat import render_text
from beichen.text.chat_template import ChatTemplate, chat_template
from beichen.text.jinja_template import JINJA, JinjaTemplate
from beichen.text.messages import Message

_QUESTION, _ANSWER = Message(role="user", content="你好 hi"), Message(role="assistant", content="好。")
_PROBES = (
    [_QUESTION],
    [_QUESTION, _ANSWER, _QUESTION],
    [Message(role="system", content="说 say"), _QUESTION],
)


def choose_template(default: str | None, vocabulary: Collection[str], program: JinjaTemplate | None) -> str | None:
    """The name of a format of ours, ``jinja`` for the folder's own program, or ``None`` where there is nothing."""
    if default is None:
        return None if program is None else JINJA
    family = chat_template(default)
    names = [name for name in (*family.special_cases, default) if chat_template(name).speaks(vocabulary)]
    if program is not None:
        return next((name for name in names if _agrees(chat_template(name), program, vocabulary)), JINJA)
    if family.speaks(vocabulary):
        names = [name for name in names if name == default or chat_template(name).recognised_by]
    return next(iter(names), None)


def _agrees(template: ChatTemplate, program: JinjaTemplate, vocabulary: Collection[str]) -> bool:
    for probe in _PROBES:
        try:
            ours: str | None = render_text(template, probe, add_generation_prompt=True)
        except TemplateError:
            ours = None
        try:
            theirs: str | None = program.render_text(vocabulary, probe, add_generation_prompt=True)
        except TemplateError:
            theirs = None
        if ours != theirs:
            return False
    return True
