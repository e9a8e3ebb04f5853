"""encode: text to shards for training, with a ledger. convert: any dialogue or preference file as OpenAI messages, one JSON object a line.
preview: what training sees, token by token. stats: counts, lengths, tokens by role and source. verify: shards against their checksums.
`beichen data ACTION --help` tells more of each.

beichen data encode --input corpus/*.jsonl --tokenizer runs/quickstart-001 --out encoded
beichen data preview dialogues.jsonl --model runs/quickstart-001 --html preview.html
beichen data stats dialogues.jsonl --tokenizer runs/quickstart-001
beichen data convert dialogues.json --out messages.jsonl
beichen data verify encoded
"""

from __future__ import annotations

import argparse

from beichen.cli.options import add_actions, run_action

_PACKAGE = "beichen.cli.data_actions"
ACTIONS = {  # each a file of ``data_actions/``, with ``add_arguments`` and ``run``
    "encode": "turn any amount of text into shards of ids, cleaned, deduplicated, accounted for",
    "convert": "write dialogues or preferences as OpenAI messages",
    "preview": "show samples and packed rows: trained, context, boundaries, weights",
    "stats": "count dialogues, tokens by role and source, lengths, faults",
    "verify": "compare encoded text with its checksums",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_actions(parser, _PACKAGE, ACTIONS)


def run(arguments: argparse.Namespace) -> int:
    """What the action says."""
    return run_action(_PACKAGE, arguments)
