"""verify: every file against the SHA-256 that was noted when the checkpoint was written; exit code 1, and the file is named, if one bit
differs. A folder of another tool carries no such notes: then it says so, and checks what can be checked.

beichen checkpoint verify runs/quickstart-001
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("verify",), help="verify")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a checkpoint folder, or hf:org/name, ms:org/name")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify; 0 when nothing is wrong."""
    from beichen.checkpoints.digests import DIGESTS
    from beichen.checkpoints.verification import verify_checkpoint
    from beichen.util.quantities import counted

    found = verify_checkpoint(arguments.folder, reporter=make_reporter())
    if arguments.json:
        print_json(found)
        return 1 if found.faults else 0
    if not found.has_digests:
        print(f"{found.folder}: no {DIGESTS}, so a flipped bit cannot be told from a weight; checked instead:")
    for what in found.compared:
        print(f"  compared      {what}")
    for what in found.not_compared:
        print(f"  not compared  {what}")
    for fault in found.faults:
        print(f"  FAULT         {fault}")
    print(f"{found.folder}: " + (counted(len(found.faults), "faults") if found.faults else "no fault found"))
    return 1 if found.faults else 0
