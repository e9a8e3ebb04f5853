"""Every shard of encoded text against its header, its store and the ledger, to the byte; exit code 1, and the shard is named, if one
bit differs. --quick reads headers and sizes alone, as `encode` does in a folder that is finished.

beichen data verify encoded
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `beichen data encode` wrote, all parts or one")
    parser.add_argument("--quick", action="store_true", help="headers and sizes alone, whatever the amount of text")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify; 0 when nothing is wrong."""
    from beichen.data.verification import verify_encoded_text
    from beichen.util.quantities import counted

    found = verify_encoded_text(arguments.folder, quick=arguments.quick, reporter=make_reporter())
    if arguments.json:
        print_json(found)
        return 1 if found.faults else 0
    how = "their headers and sizes" if arguments.quick else "the SHA-256 in their headers"
    print(f"  compared  {counted(found.shards, 'shards')} with {how}, store.json, the ledger")
    print(f"  sound     {counted(found.documents, 'documents')}" + ("" if arguments.quick else f", {found.bytes_read:,} bytes"))
    for fault in found.faults:
        print(f"  FAULT     {fault}")
    print(f"{found.folder}: " + (counted(len(found.faults), "faults") if found.faults else "no fault found"))
    return 1 if found.faults else 0
