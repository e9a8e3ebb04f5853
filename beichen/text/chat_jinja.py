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
    content = f"{_CONTENT}|trim" if template.strip_content else _CONTENT
    default = _quote(template.default_system) if template.default_system is not None else "none"
    inside = template.user_with_system is not None
    lines = [
        "{%- set given = messages[0].content if messages[0].role == 'system' else " + default + " -%}",
        "{%- set place = namespace(first_user=-1, last_user=-1) -%}",
        "{%- for message in messages -%}{%- if message.role == 'user' -%}",
        "{%- if place.first_user < 0 -%}{%- set place.first_user = loop.index0 -%}{%- endif -%}{%- set place.last_user = loop.index0 -%}",
        "{%- endif -%}{%- endfor -%}",
        _emit(template, template.start),
        *_system(template),
        "{%- for message in messages -%}",
        "{%- if message.role == 'system' -%}",
        "{%- if not loop.first -%}" + _refuse("a system message must come first") + "{%- endif -%}",
        "{%- elif message.role == 'user' -%}",
        *(
            (
                "{%- if given is not none and loop.index0 == place.first_user -%}",
                _emit(template, template.user_with_system, content=content, system="given"),
                "{%- else -%}",
            )
            if inside
            else ()
        ),
        _emit(template, template.user, content=content),
        "{%- endif -%}" if inside else "",
        "{%- elif message.role in ['assistant', 'bot'] -%}",
        _emit(template, template.answer_prompt),
        *_answer(template, content),
        "{%- elif message.role == 'tool' -%}",
    ]
    if template.tool is None:
        lines.append(_refuse("this chat format has no tool results"))
    else:
        lines += [
            "{%- if loop.previtem is defined and loop.previtem.role == 'tool' -%}" + _emit(template, template.tool_separator),
            "{%- else -%}" + _emit(template, template.tool_first) + "{%- endif -%}",
            _emit(template, template.tool, content=content),
            "{%- if loop.nextitem is undefined or loop.nextitem.role != 'tool' -%}" + _emit(template, template.tool_last) + "{%- endif -%}",
        ]
    lines += [
        "{%- else -%}",
        _refuse("unknown role"),
        "{%- endif -%}",
        "{%- endfor -%}",
        "{%- if add_generation_prompt -%}" + _emit(template, template.answer_prompt),
        "{%- if enable_thinking is defined and enable_thinking is false -%}" + _emit(template, template.no_thought) + "{%- endif -%}"
        if template.no_thought
        else "",
        "{%- endif -%}",
    ]
    return "".join(lines)


def _emit(template: ChatTemplate, text: str | None, **values: str) -> str:
    return "{{- " + _expression(template, text, values) + " -}}" if text else ""


def _refuse(reason: str) -> str:
    return "{{- raise_exception(" + _quote(reason) + ") -}}"


def _system(template: ChatTemplate) -> list[str]:
    lines = ["{%- if tools -%}"]
    if template.system_with_tools is None:
        lines.append(_refuse("this chat format has no place for tools"))
    else:
        before, after = _around(template.system_with_tools, "{{tools}}")
        lines += [
            _emit(template, before, content=f"(given ~ {_quote(template.content_tools_separator)} if given is not none else '')"),
            "{%- for tool in tools -%}{{- tool|tojson -}}{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}{%- endfor -%}",
            _emit(template, after),
        ]
    given = "given|trim" if template.strip_content or template.strip_system else "given"
    if template.user_with_system is None:
        place = _emit(template, template.system, content=given) if template.takes_system else _refuse("this chat format has no system turn")
        lines += ["{%- elif given is not none -%}", place]
    return [*lines, "{%- endif -%}"]


def _answer(template: ChatTemplate, content: str) -> list[str]:
    if template.earlier_answer is not None:
        return [
            "{%- if loop.last and not add_generation_prompt -%}",
            _emit(template, template.answer, content=content, calls="''") + _emit(template, template.answer_after),
            "{%- else -%}" + _emit(template, template.earlier_answer, content=content) + "{%- endif -%}",
        ]
    before, after = _around(template.answer, "{{calls}}")
    if template.call is None or not after:
        return [_emit(template, template.answer, content=content, calls="''"), _emit(template, template.answer_after)]
    said = "said" if template.thinking else content
    name, arguments = "function.name|tojson", "(function.arguments if function.arguments is string else function.arguments|tojson)"
    return [
        *(_thought(template) if template.thinking else ()),
        _emit(template, before, content=said),
        "{%- for call in message.tool_calls or [] -%}",
        "{%- set function = call.function if call.function is defined else call -%}",
        "{%- if not loop.first -%}{{- " + _quote(template.call_separator) + " -}}",
        "{%- elif " + said + " -%}{{- " + _quote(template.content_call_separator) + " -}}{%- endif -%}",
        _emit(template, template.call, name=name, arguments=arguments),
        "{%- endfor -%}",
        _emit(template, after),
        _emit(template, template.answer_after),
    ]


def _thought(template: ChatTemplate) -> list[str]:
    """Sets ``said``, and writes the thought where it is kept."""
    cut = f"{_CONTENT}.split('</think>')"
    return [
        "{%- set said = " + _CONTENT + " -%}{%- set thought = '' -%}",
        "{%- if message.reasoning_content is string -%}{%- set thought = message.reasoning_content -%}",
        "{%- elif '</think>' in said -%}",
        "{%- set thought = " + cut + "[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}",
        "{%- set said = " + cut + "[-1].lstrip('\\n') -%}{%- endif -%}",
        "{%- if loop.index0 > place.last_user and (loop.last or thought) -%}",
        "{%- set said = said.lstrip('\\n') -%}",
        _emit(template, template.thinking, thinking="thought.strip('\\n')"),
        "{%- endif -%}",
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
