"""Flags about dialogues that actions share; the same names as ``data.dialogues`` of a recipe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from beichen.errors import SettingsError

if TYPE_CHECKING:
    from beichen.data.dialogue_settings import DialogueSettings
    from beichen.text.tokenizer import Tokenizer


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """How files are read."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="jsonl, json or parquet files, folders or patterns")
    parser.add_argument("--strict", action="store_true", help="stop at the first record that cannot be used; default: name and count them")
    parser.add_argument("--mixed-schemas", action="store_true", help="one file may hold records of several schemas")
    parser.add_argument("--placeholders", metavar="NAME=VALUE", nargs="+", default=[], help="values of {{name}} and {{author}}")


def add_mask_options(parser: argparse.ArgumentParser) -> None:
    """Which answers are learnt, and by which tokenizer they are written."""
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--model", metavar="DIR", help="a checkpoint, whose tokenizer and chat format are used; or a model by name")
    place.add_argument("--tokenizer", metavar="DIR", help="a folder with a tokenizer")
    parser.add_argument("--template", metavar="NAME", help="another chat format, by name")
    parser.add_argument("--sequence-length", type=int, default=2048, metavar="N", help="tokens of a row (default %(default)s)")
    parser.add_argument("--answers", choices=("all", "last"), default="all", help="which answers are learnt (default %(default)s)")
    parser.add_argument("--no-tool-calls", action="store_true", help="turns that call tools are not learnt")
    parser.add_argument("--no-thinking", action="store_true", help="thoughts are taken out")
    parser.add_argument("--too-long", choices=("truncate", "keep", "drop"), default="truncate",
                        help="dialogues longer than a row: shortened at an answer, cut, or left out (default %(default)s)")  # fmt: skip
    parser.add_argument("--preferences", choices=("refuse", "chosen"), default="refuse",
                        help="preference data: refused, or its chosen answers learnt (default %(default)s)")  # fmt: skip


def dialogue_settings(arguments: argparse.Namespace) -> DialogueSettings:
    """The settings that the flags say; what an action has no flag for is as by default."""
    from beichen.data.dialogue_settings import DialogueSettings

    given = vars(arguments)
    if given.get("sequence_length", 2) < 2:
        raise SettingsError(f"--sequence-length {given['sequence_length']}: must be at least 2 tokens")
    return DialogueSettings(
        answers=given.get("answers", "all"), tool_calls=not given.get("no_tool_calls", False), thinking=not given.get("no_thinking", False),
        too_long=given.get("too_long", "truncate"), preferences=given.get("preferences", "refuse"),
        mixed_schemas=arguments.mixed_schemas, placeholders=tuple(arguments.placeholders),
    )  # fmt: skip


def named_tokenizer(arguments: argparse.Namespace) -> Tokenizer:
    """The tokenizer of ``--model`` or ``--tokenizer``, with the chat format of ``--template``."""
    from beichen.checkpoints.tokenizers import load_tokenizer

    return load_tokenizer(arguments.model or arguments.tokenizer, template=arguments.template)
