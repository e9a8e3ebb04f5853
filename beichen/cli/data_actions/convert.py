"""The schema of each file is found from its keys. What is read is written whole: messages, tools, tool calls, thoughts, weights; preference
pairs as prompt, chosen and rejected, ratings as messages and label. --dry-run writes nothing and lists every fault.

beichen data convert shared/*.json --out messages.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from beichen.cli.dialogue_options import add_reading_options, dialogue_settings
from beichen.cli.outputs import new_file
from beichen.cli.terminal import make_reporter, print_json_line
from beichen.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reading_options(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a new jsonl file; default: standard output")
    parser.add_argument("--dry-run", action="store_true", help="write nothing; list every record that cannot be used")


def run(arguments: argparse.Namespace) -> int:
    """Convert; exit code 1 if a dry run found faults."""
    from beichen.data.account import WARNINGS_SHOWN, Account
    from beichen.data.dialogue_files import read_samples
    from beichen.text.openai_messages import to_openai
    from beichen.util.files import write_atomically

    if arguments.dry_run and (arguments.out or arguments.strict):
        raise SettingsError("--dry-run writes nothing and stops nowhere", remedy="leave --out and --strict out")
    if arguments.out is not None:
        new_file(arguments.out)
    account = Account(item="samples")
    samples = read_samples(
        arguments.files, settings=dialogue_settings(arguments), on_bad="raise" if arguments.strict else "count",
        account=account, reporter=make_reporter(), show=sys.maxsize if arguments.dry_run else WARNINGS_SHOWN,
    )  # fmt: skip
    records = (to_openai(sample) for sample in samples)
    if arguments.out is not None:
        write_atomically(arguments.out, lambda file: file.writelines(_line(record) for record in records))
    elif arguments.dry_run:
        for _ in records:
            pass
    else:
        for record in records:
            print_json_line(record)
    print(account.as_text(), file=sys.stderr)
    return 1 if arguments.dry_run and account.dropped else 0


def _line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
