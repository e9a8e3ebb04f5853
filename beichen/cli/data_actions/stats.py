"""Lengths are those of training: tokens by the model's tokenizer and chat format. Records that cannot be used are counted by reason.

beichen data stats dialogues.jsonl --model runs/quickstart-001 --png lengths.png
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.dialogue_options import add_mask_options, add_reading_options, dialogue_settings, named_tokenizer
from beichen.cli.options import add_json_option
from beichen.cli.outputs import drawn_file
from beichen.cli.terminal import make_reporter, print_json

if TYPE_CHECKING:
    from beichen.data.statistics import DialogueStatistics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reading_options(parser)
    add_mask_options(parser)
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the histogram of lengths")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Count and print."""
    from beichen.data.account import Account
    from beichen.data.dialogue_files import read_dialogues
    from beichen.data.statistics import count_dialogues
    from beichen.evaluation.plots import plot_histogram

    if arguments.png is not None:
        drawn_file(arguments.png)
    settings, tokenizer, reporter = dialogue_settings(arguments), named_tokenizer(arguments), make_reporter()
    account = Account(item="dialogues")
    dialogues = read_dialogues(
        arguments.files, settings=settings, on_bad="raise" if arguments.strict else "count", account=account, reporter=reporter
    )
    found = count_dialogues(dialogues, tokenizer, settings, sequence_length=arguments.sequence_length, reporter=reporter)
    if arguments.png is not None:
        plot_histogram(
            arguments.png, found.lengths, title="Tokens of a dialogue", x_label="tokens", y_label="dialogues",
            marks={f"row of {arguments.sequence_length:,}": float(arguments.sequence_length)},
        )  # fmt: skip
    if arguments.json:
        print_json({**found.as_dict(), "read": account.as_dict()})
    else:
        print("\n".join(_lines(found, account.as_text())))
    return 0


def _lines(found: DialogueStatistics, read: str) -> Iterator[str]:
    from beichen.data.account import Account
    from beichen.util.quantities import counted

    tokens = sum(found.tokens.values())
    yield read
    yield f"{counted(found.dialogues, 'dialogues')}, {tokens:,} tokens, {found.targets:,} of them learnt ({found.targets / tokens:.1%})"
    extras = {"tool calls": found.tool_calls, "thoughts": found.thoughts, "dialogues with tools": found.with_tools}
    shown = [f"{count:,} {what}" for what, count in extras.items() if count]
    if shown:
        yield ", ".join(shown)
    yield "\nrole         messages        tokens   share"
    for role, count in found.tokens.most_common():
        yield f"{role:<10} {found.messages[role]:>10,} {count:>13,} {count / tokens:>7.1%}"
    quantiles = found.quantiles
    named = {"0": "shortest", "0.5": "median", "0.9": "90 %", "0.99": "99 %", "1": "longest"}
    yield "\ntokens of a dialogue: " + ", ".join(f"{named[key]} {value:,}" for key, value in quantiles.items())
    yield f"in rows of {found.sequence_length:,}: {Account.from_dict(found.account).as_text()}"
    yield f"packed into {counted(found.rows, 'rows')}, {found.packing_efficiency:.2%} of their positions hold a token"
    width = max(map(len, found.sources))
    yield f"\n{'source':<{width}}  dialogues        tokens        learnt"
    for name, source in found.sources.items():
        yield f"{name:<{width}} {source.dialogues:>10,} {source.tokens:>13,} {source.targets:>13,}"
    for fault, count in found.faults.most_common():
        yield f"FAULT {fault}: {counted(count, 'dialogues')}, first {found.examples[fault]}"
