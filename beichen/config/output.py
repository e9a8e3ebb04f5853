"""Resolved settings as text: printed at the start of a run, stored with every result, explained by ``--help``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from beichen.config.kinds import default_of, describe, is_section, optional_of
from beichen.config.sources import resolves_to_other_than_text


def settings_as_dict(settings: Any) -> Any:
    """Plain values (dict, list, text, numbers), ready for JSON or YAML; ``read_settings`` reads them back."""
    if is_dataclass(settings):
        return {field.name: settings_as_dict(getattr(settings, field.name)) for field in fields(settings) if field.init}
    if isinstance(settings, dict):
        return {str(key): settings_as_dict(value) for key, value in settings.items()}
    if isinstance(settings, (list, tuple)):
        return [settings_as_dict(value) for value in settings]
    return str(settings) if isinstance(settings, Path) else settings


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if _UNSEEN.search(value) else "'" if resolves_to_other_than_text(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")  # kept only by a double-quoted scalar, where they are escaped
_Dumper.add_representer(str, _text)


def settings_as_yaml(settings: Any) -> str:
    """The settings as a recipe: given to ``--config``, it makes the same settings again."""
    text = yaml.dump(settings_as_dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140)
    return text.replace("\u2028", "\\L").replace("\u2029", "\\P").replace("\ufeff", "\\uFEFF")  # PyYAML leaves these three as they are


def field_comments(kind: type) -> dict[str, str]:
    """What the source says of each field: the comment behind it, else the docstring's ``name: ...``, up to the next name or empty line."""
    said = re.findall(r"^\s*(\w+): (.+(?:\n(?!\s*\w+: ).*\S.*)*)", kind.__doc__ or "", re.MULTILINE)
    comments = {name: " ".join(text.split()) for name, text in said}
    lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
    tree = ast.parse("\n".join(lines)).body[0]
    for statement in getattr(tree, "body", []):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.end_lineno is not None:
            tail = lines[statement.end_lineno - 1].encode()[statement.end_col_offset :].decode()
            if "#" in tail:
                comments[statement.target.id] = tail.partition("#")[2].strip()
    return comments


def help_on_settings(kind: type, prefix: str = "", *, within_optional: bool = False) -> str:
    """One line per setting: ``--a.b  what it expects (default)  why``, sections in order. within_optional: the section may be left out."""
    types_of, comments = get_type_hints(kind), field_comments(kind)
    lines: list[str] = []
    for field in fields(kind):
        if not field.init:
            continue
        name, expected = f"{prefix}{field.name}", types_of[field.name]
        inner = optional_of(expected)
        section = inner if inner is not None and is_section(inner) else expected
        if is_section(section):
            lines.append(help_on_settings(section, f"{name}.", within_optional=within_optional or inner is not None))
            continue
        default = default_of(field)
        shown = f"default {_shown(default)}" if default is not MISSING else "required" if not within_optional else "needed with the others"
        lines.append(f"  --{name}  {describe(expected)}; {shown}")
        if comments.get(field.name):
            lines.append(f"      {comments[field.name]}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    plain = settings_as_dict(value)
    return "null" if plain is None else str(plain).lower() if isinstance(plain, bool) else str(plain)
