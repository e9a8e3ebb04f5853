"""encode: text to shards for training, with a ledger. convert: any dialogue or preference file as OpenAI messages, one JSON object a line.
preview: what training sees, token by token. stats: counts, lengths, tokens by role and source. `beichen data ACTION --help` tells more of
each.

beichen data encode --input corpus/*.jsonl --tokenizer runs/quickstart-001 --out encoded
beichen data preview dialogues.jsonl --model runs/quickstart-001 --html preview.html
beichen data stats dialogues.jsonl --tokenizer runs/quickstart-001
beichen data convert dialogues.json --out messages.jsonl
"""

from __future__ import annotations

import argparse
from importlib import import_module

ACTIONS = {  # each a file of ``data_actions/``, with ``add_arguments`` and ``run``
    "encode": "turn any amount of text into shards of ids, cleaned, deduplicated, accounted for",
    "convert": "write dialogues or preferences as OpenAI messages",
    "preview": "show samples and packed rows: trained, context, boundaries, weights",
    "stats": "count dialogues, tokens by role and source, lengths, faults",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in ACTIONS.items():
        module = import_module(f"beichen.cli.data_actions.{name}")
        action = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=module.__doc__, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(action)


def run(arguments: argparse.Namespace) -> int:
    """What the action says."""
    code: int = import_module(f"beichen.cli.data_actions.{arguments.action}").run(arguments)
    return code
