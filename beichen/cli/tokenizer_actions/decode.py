"""Ids that are not given are read from standard input.

beichen tokenizer decode runs/quickstart-001 271 268 41 --json
"""

from __future__ import annotations

import argparse

from beichen.cli.tokenizer_actions.pieces import add_common_arguments, find_tokenizer, read_ids, show, standard_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, "ID")
    parser.add_argument("--skip-special", action="store_true", help="leave control tokens out of the text")


def run(arguments: argparse.Namespace) -> int:
    """Print the pieces, and the text."""
    tokenizer = find_tokenizer(arguments.folder)
    ids = read_ids(" ".join(arguments.values) if arguments.values else standard_input())
    text = tokenizer.decode(ids, skip_special=arguments.skip_special)
    show(tokenizer, text, ids, summary=text, as_json=arguments.json)
    return 0
