"""Flags of every command that lets a model write."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beichen.cli.options import read_json_option
from beichen.errors import BeichenError, SettingsError

_FLAGS: dict[str, tuple[type, str, str]] = {
    "max_new_tokens": (int, "N", "longest answer, in tokens (default: the model's generation_config.json, else 256)"),
    "temperature": (
        float,
        "T",
        "0 takes the likeliest token; 1 draws as the model's probabilities say (default: the model's, else 0)",
    ),
    "top_k": (int, "K", "draw among the K likeliest only"),
    "top_p": (float, "P", "draw among the likeliest that together hold this probability"),
    "min_p": (float, "P", "draw among those at least P times as likely as the likeliest"),
    "repetition_penalty": (
        float,
        "R",
        "above 1, tokens that were already there become less likely (default: the model's, else 1)",
    ),
    "presence_penalty": (float, "P", "from -2 to 2: above 0, tokens that the answer has become less likely"),
    "frequency_penalty": (float, "P", "the same, as often as the answer has them"),
    "min_new_tokens": (int, "N", "shortest answer, in tokens"),
    "seed": (int, "N", "the same seed gives the same answer"),
}


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """``--temperature`` and its kin; each is ``None`` when not given."""
    for name, (kind, metavar, text) in _FLAGS.items():
        parser.add_argument(option(name), type=kind, metavar=metavar, help=text)
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end the answer before this text; may be given several times")
    constraint = parser.add_mutually_exclusive_group()
    constraint.add_argument("--json-schema", type=Path, metavar="FILE", help="answer in JSON that fits the schema in this file")
    constraint.add_argument("--regex", metavar="REGEX", help="answer in a text that this matches from beginning to end")


def add_chat_options(parser: argparse.ArgumentParser) -> None:
    """``--template`` and ``--thinking``, each ``None`` when not given."""
    parser.add_argument("--template", metavar="NAME", help="another chat format than the folder's: docs/tokenizers.md lists them; or jinja")
    parser.add_argument(
        "--thinking", action=argparse.BooleanOptionalAction, default=None, help="whether to think before answering, in formats that have it"
    )


@contextmanager
def options_as_typed() -> Iterator[None]:
    """Faults of settings, which begin with ``name=value``, call the option as it was typed: ``--name value``."""
    try:
        yield
    except BeichenError as fault:
        found = re.match(r"(\w+)=([^:;]*)", str(fault.args[0]))
        if found is None or found[1] not in _FLAGS:
            raise
        written = f"{option(found[1])} {found[2]}{str(fault.args[0])[found.end() :]}"
        raise type(fault)(written, remedy=fault.remedy) from fault


def option(name: str) -> str:
    """``max_new_tokens`` as it is typed."""
    return "--" + name.replace("_", "-")


def check_answer_options(arguments: argparse.Namespace) -> None:
    """What can be refused before any weights are read: settings out of range, a chat format that does not exist."""
    from beichen.inference.api import Request, SamplingSettings
    from beichen.inference.constraint_limits import check_limits
    from beichen.text.chat_template import chat_template
    from beichen.text.jinja_template import JINJA

    given = sampling_settings_of(arguments)
    with options_as_typed():
        stop, at_least, constraint = given.pop("stop", ()), given.pop("min_new_tokens", 0), given.pop("constraint", None)
        length = given.pop("max_new_tokens", max(1, at_least))
        if constraint is not None:
            check_limits(constraint)
        Request(
            prompt_ids=[0], max_new_tokens=length, min_new_tokens=at_least,
            stop_strings=stop, sampling=SamplingSettings(**given), constraint=constraint,
        )  # fmt: skip
    if arguments.template not in (None, JINJA):
        chat_template(arguments.template)


def sampling_settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, as keyword arguments of ``LanguageModel.request``."""
    given = {name: getattr(arguments, name) for name in (*_FLAGS, "stop")}
    given["constraint"] = _constraint(arguments)
    return {name: value for name, value in given.items() if value is not None}


def _constraint(arguments: argparse.Namespace) -> Any:
    if arguments.json_schema is None and arguments.regex is None:
        return None
    from beichen.inference.api import Constraint

    if arguments.regex is not None:
        return Constraint(regex=arguments.regex)
    schema = read_json_option("--json-schema", arguments.json_schema)
    if not isinstance(schema, dict | bool):
        raise SettingsError(f"--json-schema {arguments.json_schema}: expected an object, got {type(schema).__name__}")
    return Constraint(json_schema=schema)
