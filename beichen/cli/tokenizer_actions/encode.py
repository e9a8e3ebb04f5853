"""A text that is not given is read from standard input.

beichen tokenizer encode runs/quickstart-001 "12 + 30 = 42"
"""

from __future__ import annotations

import argparse

from beichen.cli.tokenizer_actions.pieces import add_common_arguments, find_tokenizer, show, standard_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, "TEXT")
    parser.add_argument("--allow-special", action="store_true", help="let the names of control tokens act, as published code does")


def run(arguments: argparse.Namespace) -> int:
    """Print the pieces, and how many."""
    tokenizer = find_tokenizer(arguments.folder)
    text = " ".join(arguments.values) if arguments.values else standard_input()
    ids = tokenizer.encode(text, allow_special=arguments.allow_special)
    size = len(text.encode("utf-8", "replace"))
    show(tokenizer, text, ids, summary=f"{len(ids)} tokens, {len(text)} characters, {size} bytes", as_json=arguments.json)
    return 0
