"""train: a tokenizer from any amount of text, in bounded memory. report: how well tokenizers compress texts, side by side. extend: more
tokens, in a checkpoint with rows for them. encode, decode: what a tokenizer makes of a text or of ids, piece by piece. `beichen tokenizer
ACTION --help` tells more of each.

beichen tokenizer train --input corpus/*.jsonl --vocab-size 32000 --out tokenizer --memory 512MiB
beichen tokenizer report tokenizer other/tokenizer --input corpus/*.jsonl --plot report.png
beichen tokenizer extend model --out longer --control "<think>" "</think>"
beichen tokenizer encode runs/quickstart-001 "12 + 30 = 42"
beichen tokenizer decode runs/quickstart-001 29 30 353 233 31 28 --json
"""

from __future__ import annotations

import argparse

from beichen.cli.options import add_actions, run_action

_PACKAGE = "beichen.cli.tokenizer_actions"
ACTIONS = {  # each a file of ``tokenizer_actions/``, with ``add_arguments`` and ``run``
    "train": "learn a tokenizer from text, in bounded memory; killed, it goes on",
    "report": "compare tokenizers: bytes and characters per token, coverage, by domain",
    "extend": "add tokens to a tokenizer, and rows for them to its checkpoint",
    "encode": "turn a text into its pieces",
    "decode": "turn ids into their text",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, _PACKAGE, ACTIONS)


def run(arguments: argparse.Namespace) -> int:
    """What the action says."""
    return run_action(_PACKAGE, arguments)
