"""A chat format of ours as the Jinja string that other programs read from ``tokenizer_config.json``.

``to_jinja(template)`` renders the same text as :func:`beichen.text.chat.render_text`; a test holds the two together. Beichen itself
never runs Jinja to render: text cannot tell a control token from a user's words.
"""

from __future__ import annotations

from collections.abc import Mapping

from beichen.text.chat_template import ChatTemplate, Slot, Special

_CONTENT = "(message.content or '')"


def to_jinja(template: ChatTemplate) -> str:
    """One Jinja program for the format. Turns that the format lacks raise, as they do here."""

    def literal(text: str | None, **values: str) -> str:
        return _expression(template, text or "", values)

    def emit(text: str | None, **values: str) -> str:
        return "{{- " + literal(text, **values) + " -}}" if text else ""

    def refuse(reason: str) -> str:
        return "{{- raise_exception(" + _quote(reason) + ") -}}"

    content = f"{_CONTENT}|trim" if template.strip_content else _CONTENT
    default = _quote(template.default_system) if template.default_system is not None else "none"
    lines = [
        "{%- set given = messages[0].content if messages[0].role == 'system' else " + default + " -%}",
        emit(template.start),
        "{%- if tools -%}",
    ]
    if template.system_with_tools is None:
        lines.append(refuse("this chat format has no place for tools"))
    else:
        before, after = _around(template.system_with_tools, "{{tools}}")
        lines += [
            emit(before, content="(given or '')"),
            "{%- for tool in tools -%}{{- tool|tojson -}}{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}{%- endfor -%}",
            emit(after),
        ]
    given = "given|trim" if template.strip_content else "given"
    lines += [
        "{%- elif given is not none -%}",
        emit(template.system, content=given) if template.system is not None else refuse("this chat format has no system turn"),
        "{%- endif -%}",
        "{%- for message in messages -%}",
        "{%- if message.role == 'system' -%}",
        "{%- if not loop.first -%}" + refuse("a system message must come first") + "{%- endif -%}",
        "{%- elif message.role == 'user' -%}",
        emit(template.user, content=content),
        "{%- elif message.role in ['assistant', 'bot'] -%}",
        emit(template.answer_prompt),
        *_answer(template, content),
        emit(template.answer_after),
        "{%- elif message.role == 'tool' -%}",
    ]
    if template.tool is None:
        lines.append(refuse("this chat format has no tool results"))
    else:
        lines += [
            "{%- if loop.previtem is defined and loop.previtem.role == 'tool' -%}" + emit(template.tool_separator),
            "{%- else -%}" + emit(template.tool_first) + "{%- endif -%}",
            emit(template.tool, content=content),
            "{%- if loop.nextitem is undefined or loop.nextitem.role != 'tool' -%}" + emit(template.tool_last) + "{%- endif -%}",
        ]
    lines += [
        "{%- else -%}",
        refuse("unknown role"),
        "{%- endif -%}",
        "{%- endfor -%}",
        "{%- if add_generation_prompt -%}" + emit(template.answer_prompt) + "{%- endif -%}",
    ]
    return "".join(lines)


def _answer(template: ChatTemplate, content: str) -> list[str]:
    before, after = _around(template.answer, "{{calls}}")
    if template.call is None or not after:
        return ["{{- " + _expression(template, template.answer, {"content": content, "calls": "''"}) + " -}}"]
    name, arguments = "function.name|tojson", "(function.arguments if function.arguments is string else function.arguments|tojson)"
    call = _expression(template, template.call, {"name": name, "arguments": arguments})
    return [
        "{{- " + _expression(template, before, {"content": content}) + " -}}",
        "{%- for call in message.tool_calls or [] -%}",
        "{%- set function = call.function if call.function is defined else call -%}",
        "{%- if not loop.first -%}{{- " + _quote(template.call_separator) + " -}}",
        "{%- elif message.content -%}{{- " + _quote(template.content_call_separator) + " -}}{%- endif -%}",
        "{{- " + call + " -}}",
        "{%- endfor -%}",
        "{{- " + _expression(template, after, {}) + " -}}",
    ]


def _around(literal: str, slot: str) -> tuple[str, str]:
    before, _, after = literal.partition(slot)
    return before, after


def _expression(template: ChatTemplate, literal: str, values: Mapping[str, str]) -> str:
    terms = []
    for atom in template.atoms(literal):
        if isinstance(atom, Slot):
            terms.append(f"({values[atom.name]})")
        else:
            terms.append(_quote(atom.name if isinstance(atom, Special) else atom))
    return " ~ ".join(terms) or "''"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
